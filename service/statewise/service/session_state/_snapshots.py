"""Packs a session's state into a signed token that the client keeps, bound to owner and model digest.

    magic | key's name, 4 bytes | length of the header, 4 bytes | of the state, 8 bytes
    | header, JSON | state, little-endian | HMAC-SHA256 of all before

Where a session keeps more than one request, or a token carries its named checkpoints, the magic is another
one and the header says so; the checkpoints follow the state, and count in its length. Builds that do not know
this magic say that such a token is no snapshot.

The key's name is a hash of the key. From this name and the lengths the server finds why a token is invalid.

A token is not encrypted: a client may read its own state, but not change it. A token is valid on every
server with the same key and model digest.
"""

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import ServiceError, StoredCheckpoint
from statewise.wire import DTYPES, Reason, StatePair

_MAGIC = b"SWS1"
_MAGIC_OF_MORE = b"SWS2"
_SIGNATURE_BYTES = 32
_FRONT = struct.Struct("<4s4sIQ")
"""Magic, the key's name, bytes of the header, bytes of the state."""
_CHECKPOINT = struct.Struct("<QQHH")
"""Position, milliseconds since 1970, bytes of the name, bytes of the origin; then name, origin and state."""
_MAY_MISS = {"version", "keep", "checkpoint_bytes"}
_FIELDS = {"owner", "model", "digest", "position", *_MAY_MISS}

LEAST_TOKEN_BYTES = _FRONT.size + _SIGNATURE_BYTES + 2 * hashlib.sha256().digest_size + 70
"""Bytes of a token beside its state, at least: the header has the model's digest and the names of fields."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The contents of a token.

    Attributes:
        owner: Name of the session's owner.
        model: Name of the model.
        version: Number of the model version; 0: the token does not name it.
        digest: Digest of the model version.
        position: Time steps consumed.
        state: The arrays of the state, one after another.
        keep: How many of its last requests the session keeps.
        checkpoints: Its named checkpoints; None: the token does not carry them. Their births mean nothing.
    """

    owner: str
    model: str
    version: int
    digest: str
    position: int
    state: bytes
    keep: int = 1
    checkpoints: Sequence[StoredCheckpoint] | None = None


class Snapshots:
    """Signs and reads tokens.

    Args:
        key: The signing key; servers with the same key accept each other's tokens.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._key_name = self._signature(b"name of the key")[:4]

    def sign(self, snapshot: Snapshot) -> bytes:
        """Signs a snapshot; returns the token."""
        fields: dict[str, str | int] = {
            "owner": snapshot.owner,
            "model": snapshot.model,
            "version": snapshot.version,
            "digest": snapshot.digest,
            "position": snapshot.position,
        }
        checkpoints = b"".join(map(_pack_checkpoint, snapshot.checkpoints or ()))
        plain = snapshot.keep == 1 and snapshot.checkpoints is None
        if snapshot.keep > 1:
            fields["keep"] = snapshot.keep
        if snapshot.checkpoints is not None:
            fields["checkpoint_bytes"] = len(checkpoints)
        header, body = json.dumps(fields).encode(), snapshot.state + checkpoints
        magic = _MAGIC if plain else _MAGIC_OF_MORE
        signed = _FRONT.pack(magic, self._key_name, len(header), len(body)) + header + body
        return signed + self._signature(signed)

    def read(self, token: bytes, *, owner: str) -> Snapshot:
        """Reads a token of that owner.

        Raises:
            ServiceError: BAD_SNAPSHOT: the token is no snapshot, was cut short, signed with another key or
                altered, or belongs to another owner.
        """
        if len(token) < _FRONT.size or not token.startswith((_MAGIC, _MAGIC_OF_MORE)):
            raise _bad("this is no snapshot, or its beginning is missing")
        _, key_name, header_bytes, state_bytes = _FRONT.unpack_from(token)
        expected = _FRONT.size + header_bytes + state_bytes + _SIGNATURE_BYTES
        if len(token) != expected:
            word = "was cut short" if len(token) < expected else "has bytes after its end"
            raise _bad(f"the snapshot {word}: expected {expected} bytes; got {len(token)}")
        if key_name != self._key_name:
            raise _bad("the snapshot was signed with another key")
        signed, signature = token[:-_SIGNATURE_BYTES], token[-_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(signed)):
            raise _bad("the snapshot was altered")
        end = _FRONT.size + header_bytes
        fields = json.loads(signed[_FRONT.size : end])
        if fields.keys() | _MAY_MISS != _FIELDS:
            raise _bad("the snapshot is of a release that this server does not know")
        if fields["owner"] != owner:
            raise _bad("the snapshot was taken by another owner")
        checkpoint_bytes = fields.pop("checkpoint_bytes", None)
        body = signed[end:]
        state = body[: len(body) - (checkpoint_bytes or 0)]
        checkpoints = None
        if checkpoint_bytes is not None:
            checkpoints = _unpack_checkpoints(body[len(state) :], len(state))
        # Tokens that an earlier build signed name no version.
        return Snapshot(state=state, checkpoints=checkpoints, **{"version": 0, **fields})

    def _signature(self, signed: bytes) -> bytes:
        return hmac.new(self._key, signed, hashlib.sha256).digest()


def checkpoint_bytes_of(token: bytes) -> int:
    """Returns how many bytes of a token that this process signed are named checkpoints."""
    _, _, header_bytes, _ = _FRONT.unpack_from(token)
    size: int = json.loads(token[_FRONT.size : _FRONT.size + header_bytes]).get("checkpoint_bytes", 0)
    return size


def _pack_checkpoint(one: StoredCheckpoint) -> bytes:
    name, origin = one.name.encode(), one.origin.encode()
    front = _CHECKPOINT.pack(one.position, one.made_ms, len(name), len(origin))
    return front + name + origin + one.state


def _unpack_checkpoints(raw: bytes, state_bytes: int) -> list[StoredCheckpoint]:
    """Reads the checkpoints of one session, which the signature has proved to be as they were packed."""
    found, begin = [], 0
    while begin < len(raw):
        position, made_ms, *sizes = _CHECKPOINT.unpack_from(raw, begin)
        begin += _CHECKPOINT.size
        parts = []
        for size in (*sizes, state_bytes):
            parts.append(raw[begin : begin + size])
            begin += size
        name, origin, state = parts
        found.append(StoredCheckpoint(0, name.decode(), position, made_ms, origin.decode(), state))
    return found


def pack_state(state: Sequence[NDArray[Any]]) -> bytes:
    """Packs the arrays of one state, one after another."""
    return b"".join(array.tobytes() for array in state)


def unpack_state(raw: bytes, pairs: Sequence[StatePair]) -> list[NDArray[Any]]:
    """Reads the arrays of one state. Raises ServiceError (BAD_SNAPSHOT) where the sizes differ."""
    sizes = [math.prod(pair.shape) * DTYPES[pair.dtype].itemsize for pair in pairs]
    if sum(sizes) != len(raw):
        raise _bad(f"expected {sum(sizes)} bytes of state; got {len(raw)}")
    state, begin = [], 0
    for pair, size in zip(pairs, sizes, strict=True):
        values = np.frombuffer(raw[begin : begin + size], DTYPES[pair.dtype])
        state.append(values.reshape(pair.shape))
        begin += size
    return state


def _bad(message: str) -> ServiceError:
    return ServiceError(Reason.BAD_SNAPSHOT, message)
