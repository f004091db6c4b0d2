"""Reads what the scripts return: sessions with their named checkpoints, rows of a listing, births."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores import StoredCheckpoint
from statewise.service.stores._block import ROW
from statewise.service.stores._store import Listed, StoreDamaged, StoredSession
from statewise.service.stores.redis._packing import CHECKPOINT

FIXED = struct.Struct("<8sI8s8sIH")
"""Beginning of an entry: writer, epoch, handle, group, bytes of row and state, length of the owner's name."""


def births_of(found: Sequence[bytes]) -> list[int]:
    """Returns births as numbers."""
    numbers: list[int] = np.frombuffer(b"".join(found), "<u8").tolist()
    return numbers


@dataclass(frozen=True, slots=True)
class FoundSession:
    """What a script found of a session; None for a part that is missing.

    Attributes:
        entry: Its entry.
        value: Its row and state.
        group: The description of its group.
        kept: Bytes of its named checkpoints, as a decimal; None: it has none.
        checkpoints: Names and values of these, in turn.
        own: b"1" where it was this writer's already, of a session that is claimed.
    """

    entry: bytes
    value: bytes | None
    group: bytes | None
    kept: bytes | None
    checkpoints: Sequence[bytes] | None
    own: bytes = b"0"

    @classmethod
    def of(cls, parts: Sequence[bytes] | None) -> Self | None:
        """Takes what the scripts return for a birth."""
        return None if parts is None else cls(*parts)  # type: ignore[arg-type]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, nor has another length than was written."""
        if self.value is None or self.group is None or len(self.value) < ROW.itemsize:
            return False
        kept_bytes = sum(len(part) for part in self.checkpoints or ())
        size: int = FIXED.unpack_from(self.entry)[4]
        return len(self.value) == size and kept_bytes == int(self.kept or 0)

    @property
    def size_bytes(self) -> int:
        """Bytes of row, state and named checkpoints."""
        return len(self.value or b"") + int(self.kept or 0)

    def is_own(self, owner: str, writer: bytes, handle: int) -> bool:
        """Whether it is an owner's session of that handle, which belongs to that writer."""
        claimed_by, _, known_as, _, _, owner_bytes = FIXED.unpack_from(self.entry)
        named = self.entry[FIXED.size : FIXED.size + owner_bytes].decode()
        return (claimed_by[:7], known_as, named) == (writer[:7], handle.to_bytes(8, "little"), owner)

    def session(self) -> StoredSession:
        """Returns the session, which is whole."""
        assert self.value is not None
        assert self.group is not None
        owner_bytes = FIXED.unpack_from(self.entry)[5]
        names = self.entry[FIXED.size :]
        digest, version, model = self.group.decode().split(" ", 2)
        row = _row(self.value)
        return StoredSession(
            owner=names[:owner_bytes].decode(),
            session_id=names[owner_bytes:].decode(),
            model=model,
            version=int(version),
            digest=digest,
            row=row,
            state=np.frombuffer(bytearray(self.value), np.uint8, offset=ROW.itemsize),
            own=self.own == b"1",
            checkpoints=_checkpoints(int(row["birth"]), self.checkpoints or ()),
        )


def sessions_of(
    server: str, births: Sequence[int], found: Sequence[FoundSession | None]
) -> list[StoredSession | None]:
    """Reads sessions.

    Args:
        server: The address, for messages.
        births: Whose sessions they are.
        found: What was found for each birth.

    Raises:
        StoreDamaged: Of some a part is missing, or has another length than was written.
    """
    damaged = [birth for birth, one in zip(births, found, strict=True) if one and not one.is_whole]
    if damaged:
        raise StoreDamaged(f"{server} has lost a part of the sessions of births {damaged}", damaged)
    return [None if one is None else one.session() for one in found]


def _checkpoints(birth: int, parts: Sequence[bytes]) -> list[StoredCheckpoint]:
    """Reads named checkpoints; a hash of the server has no order."""
    found = []
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        position, made_ms, _, origin_bytes = CHECKPOINT.unpack_from(value)
        state_at = CHECKPOINT.size + origin_bytes
        origin = value[CHECKPOINT.size : state_at].decode()
        found.append(StoredCheckpoint(birth, name.decode(), position, made_ms, origin, value[state_at:]))
    return sorted(found, key=lambda one: (one.made_ms, one.name))


def listed_of(found: tuple[bytes, bytes, bytes, bytes | None, bytes | None, bytes | None]) -> Listed:
    """Reads one session of a listing.

    Args:
        found: Its owner, its id, its birth, its entry, its row, and the description of its group; None for a
            part that is lost.
    """
    owner, session_id, birth, entry, value, group = found
    _, version, model = ("", "0", "") if group is None else group.decode().split(" ", 2)
    damage = None
    if entry is None or value is None or group is None:
        damage = "the Redis server has lost a part of it"
    row = _row(value or bytes(ROW.itemsize))
    row["birth"] = int.from_bytes(birth, "little")
    if entry is not None:
        _, row["epoch"], handle, *_ = FIXED.unpack_from(entry)
        row["handle"] = int.from_bytes(handle, "little")
    return Listed(owner.decode(), session_id.decode(), model, int(version), row, damage)


def _row(value: bytes) -> np.void:
    rows: NDArray[np.void] = np.frombuffer(bytearray(value[: ROW.itemsize]), ROW)
    row: np.void = rows[0]
    return row
