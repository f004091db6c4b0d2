"""Packs a block into arguments of the script that writes, in portions that hold the server up briefly."""

import hashlib
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from statewise.service.stores._block import ROW, Block, Group, Name
from statewise.service.stores.redis._command_packer import EncodedArguments, encode_rows

MOST_ROWS = 1024
"""Sessions of one portion: some 10 ms of the server's time."""
MOST_NAMED_ROWS = 256
"""Sessions of one portion of a block that names sessions: to name one costs ten times what a row costs."""
MOST_BYTES = 4 << 20
"""Bytes of one portion, unless one session alone has more."""
BEGINNING = np.dtype([("epoch", "<u4"), ("handle", "<u8"), ("reference", "V8"), ("bytes", "<u4")])
"""What a session's entry has of its row."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What one call of the script writes.

    Attributes:
        names: Packed names of those sessions in `groups` that the block names.
        groups: Of each group reference and description, a `BEGINNING` a row, and each row with its state.
    """

    names: bytes
    groups: Sequence[bytes | EncodedArguments]


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
    most_rows = MOST_NAMED_ROWS if names else MOST_ROWS
    rows_left, bytes_left = most_rows, MOST_BYTES
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
                taken, rows_left, bytes_left = [], most_rows, MOST_BYTES
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
    packed: list[bytes | EncodedArguments] = []
    named: list[bytes] = []
    for group in groups:
        description = f"{group.digest} {group.version} {group.model}".encode()
        reference = hashlib.sha256(description).digest()[:8]
        packed += [reference + description, _beginnings(group, reference), _rows_and_states(group)]
        if names:
            births = group.rows["birth"].tolist()
            named += [_name(names[birth]) for birth in births if birth in names]
    return Portion(b"".join(named), packed)


def _beginnings(group: Group, reference: bytes) -> bytes:
    beginnings = np.empty(len(group.rows), BEGINNING)
    beginnings["epoch"] = group.rows["epoch"]
    beginnings["handle"] = group.rows["handle"]
    beginnings["reference"] = np.void(reference)
    beginnings["bytes"] = ROW.itemsize + group.states.shape[1]
    return beginnings.tobytes()


def _rows_and_states(group: Group) -> EncodedArguments:
    rows = np.ascontiguousarray(group.rows).view(np.uint8).reshape(-1, ROW.itemsize)
    return encode_rows(rows, group.states)


def _name(name: Name) -> bytes:
    owner, session_id = name.owner.encode(), name.session_id.encode()
    length = 2 + len(owner) + len(session_id)
    return struct.pack("<QIH", name.birth, length, len(owner)) + owner + session_id
