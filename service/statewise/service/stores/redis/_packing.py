"""Packs a block into arguments of the script that writes, in portions that hold the server up briefly."""

import hashlib
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from statewise.service.stores._block import ROW, Block, Group, Name

MOST_ROWS = 4096
"""Sessions of one portion: some 20 ms of the server's time."""
MOST_BYTES = 8 << 20
"""Bytes of one portion, unless one session alone has more."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What one call of the script writes.

    Attributes:
        names: Packed names of the sessions in `groups` that the block names.
        groups: Three arguments a group: reference and description, bytes of a state, rows and states.
    """

    names: bytes
    groups: Sequence[bytes | int]


def pack_births(births: Sequence[int]) -> bytes:
    """Returns births as 8 bytes each."""
    return np.asarray(births, "<u8").tobytes()


def check_names(block: Block) -> None:
    """Checks that every session that a block names has a row in it.

    Raises:
        ValueError: One has none.
    """
    if not block.names:
        return
    births = np.concatenate([np.zeros(0, np.uint64), *(group.rows["birth"] for group in block.groups)])
    named = np.fromiter((name.birth for name in block.names), np.uint64, len(block.names))
    missing = named[~np.isin(named, births)]
    if len(missing):
        raise ValueError(f"birth {missing[0]} is named and has no row in the block")


def portions(block: Block, *, without: Collection[int]) -> Iterator[Portion]:
    """Cuts a block into portions.

    Args:
        block: What a tick writes.
        without: Births to leave out, for they have ended.
    """
    names = {name.birth: name for name in block.names}
    taken: list[Group] = []
    rows_left, bytes_left = MOST_ROWS, MOST_BYTES
    for group in block.groups:
        rest = _remaining(group, without)
        width = ROW.itemsize + rest.states.shape[1]
        while len(rest.rows):
            count = min(len(rest.rows), rows_left, max(bytes_left // width, 0 if taken else 1))
            if count:
                taken.append(_part(rest, slice(None, count)))
                rest = _part(rest, slice(count, None))
                rows_left -= count
                bytes_left -= count * width
            if len(rest.rows):
                yield _portion(taken, names)
                taken, rows_left, bytes_left = [], MOST_ROWS, MOST_BYTES
    if taken:
        yield _portion(taken, names)


def _remaining(group: Group, without: Collection[int]) -> Group:
    if not without:
        return group
    kept = ~np.isin(group.rows["birth"], np.fromiter(without, np.uint64, len(without)))
    return Group(group.model, group.version, group.digest, group.rows[kept], group.states[kept])


def _part(group: Group, part: slice) -> Group:
    return Group(group.model, group.version, group.digest, group.rows[part], group.states[part])


def _portion(groups: Sequence[Group], names: dict[int, Name]) -> Portion:
    packed: list[bytes | int] = []
    named: list[bytes] = []
    for group in groups:
        description = f"{group.digest} {group.version} {group.model}".encode()
        reference = hashlib.sha256(description).digest()[:8]
        packed += [reference + description, group.states.shape[1], _rows_and_states(group)]
        if names:
            births = group.rows["birth"].tolist()
            named += [_name(names[birth]) for birth in births if birth in names]
    return Portion(b"".join(named), packed)


def _rows_and_states(group: Group) -> bytes:
    together = np.empty((len(group.rows), ROW.itemsize + group.states.shape[1]), np.uint8)
    together[:, : ROW.itemsize] = np.ascontiguousarray(group.rows).view(np.uint8).reshape(-1, ROW.itemsize)
    together[:, ROW.itemsize :] = group.states
    return together.tobytes()


def _name(name: Name) -> bytes:
    owner, session_id = name.owner.encode(), name.session_id.encode()
    length = 2 + len(owner) + len(session_id)
    return struct.pack("<QIH", name.birth, length, len(owner)) + owner + session_id
