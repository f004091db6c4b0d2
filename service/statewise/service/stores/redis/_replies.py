"""Reads what the scripts return: sessions, rows of a listing, births."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores._block import ROW
from statewise.service.stores._store import Listed, StoreDamaged, StoredSession

FIXED = struct.Struct("<8sI8s8sIH")
"""Beginning of an entry: writer, epoch, handle, group, bytes of row and state, length of the owner's name."""


def births_of(found: Sequence[bytes]) -> list[int]:
    """Returns births as numbers."""
    numbers: list[int] = np.frombuffer(b"".join(found), "<u8").tolist()
    return numbers


def sessions_of(
    server: str, births: Sequence[int], found: Sequence[Sequence[bytes | None] | None]
) -> list[StoredSession | None]:
    """Reads sessions.

    Args:
        server: The address, for messages.
        births: Whose sessions they are.
        found: For each birth None, or its entry, its row and state, the description of its group, and of a
            session that is claimed whether it was this writer's already.

    Raises:
        StoreDamaged: Of some a part is missing, or has another length than the entry says.
    """
    damaged = [birth for birth, parts in zip(births, found, strict=True) if parts and not _whole(*parts[:3])]
    if damaged:
        raise StoreDamaged(f"{server} has lost a part of the sessions of births {damaged}", damaged)
    return [_session(parts) for parts in found]


def is_own(parts: Sequence[bytes | None] | None, owner: str, writer: bytes, handle: int) -> bool:
    """Whether what a script found is an owner's session of that handle, which belongs to that writer."""
    entry = parts[0] if parts else None
    if entry is None:
        return False
    claimed_by, _, known_as, _, _, owner_bytes = FIXED.unpack_from(entry)
    named = entry[FIXED.size : FIXED.size + owner_bytes].decode()
    return (claimed_by[:7], known_as, named) == (writer[:7], handle.to_bytes(8, "little"), owner)


def _whole(entry: bytes | None, value: bytes | None, group: bytes | None) -> bool:
    if entry is None or value is None or group is None or len(value) < ROW.itemsize:
        return False
    size: int = FIXED.unpack_from(entry)[4]
    return len(value) == size


def _session(parts: Sequence[bytes | None] | None) -> StoredSession | None:
    if parts is None:
        return None
    entry, value, group, *own = parts
    assert entry is not None
    assert value is not None
    assert group is not None
    owner_bytes = FIXED.unpack_from(entry)[5]
    names = entry[FIXED.size :]
    digest, version, model = group.decode().split(" ", 2)
    return StoredSession(
        owner=names[:owner_bytes].decode(),
        session_id=names[owner_bytes:].decode(),
        model=model,
        version=int(version),
        digest=digest,
        row=_row(value),
        state=np.frombuffer(bytearray(value), np.uint8, offset=ROW.itemsize),
        own=own == [b"1"],
    )


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
