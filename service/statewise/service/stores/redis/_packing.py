"""Packs a block into arguments of the script that writes, in portions that hold the server up briefly."""

import hashlib
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores import StoredCheckpoint
from statewise.service.stores._block import ROW, Block, Group, Name
from statewise.service.stores.redis._command_packer import EncodedArguments, encode_rows

MOST_ROWS = 1024
"""Sessions of one portion: some 10 ms of the server's time."""
MOST_NAMED_ROWS = 256
"""Sessions of one portion of a block that names sessions: to name one costs ten times what a row costs."""
MOST_BYTES = 4 << 20
"""Bytes of one portion, unless one session alone has more, with its checkpoints."""
BEGINNING = np.dtype([("epoch", "<u4"), ("handle", "<u8"), ("reference", "V8"), ("bytes", "<u4")])
"""What a session's entry has of its row."""
CHECKPOINT = struct.Struct("<QQHH")
"""Begins the value of a named checkpoint: position, time in ms, lengths of name and origin."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What one call of the script writes.

    Attributes:
        names: Packed names of those sessions in `groups` that the block names.
        dropped: Birth and name of each named checkpoint that is dropped.
        checkpoints: Birth and name, and value, of each new one.
        groups: Of each group reference and description, a `BEGINNING` a row, and each row with its state.
    """

    names: bytes
    dropped: Sequence[bytes]
    checkpoints: Sequence[bytes]
    groups: Sequence[bytes | EncodedArguments]

    @property
    def arguments(self) -> Sequence[bytes | int | EncodedArguments]:
        """What the script takes."""
        new = len(self.checkpoints) // 2
        return (self.names, len(self.dropped), *self.dropped, new, *self.checkpoints, *self.groups)


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


class _Checkpoints:
    """What a block has of named checkpoints, by birth: packed, until a portion takes it."""

    def __init__(self, block: Block, without: Collection[int]) -> None:
        self._dropped = defaultdict[int, list[bytes]](list)
        self._new = defaultdict[int, list[bytes]](list)
        for birth, name in block.dropped:
            if birth not in without:
                self._dropped[birth].append(pack_births([birth]) + name.encode())
        for one in block.checkpoints:
            if one.birth not in without:
                self._new[one.birth] += [pack_births([one.birth]) + one.name.encode(), _value(one)]

    @property
    def births(self) -> NDArray[np.uint64]:
        """Sessions of which nothing has been taken yet."""
        return np.array([*(self._dropped.keys() | self._new.keys())], np.uint64)

    def costs(self, births: NDArray[np.uint64], row_bytes: int) -> NDArray[np.int64]:
        """Returns what sessions cost: rows, where a checkpoint counts as one, and bytes; [2, n]."""
        costs = np.empty((2, len(births)), np.int64)
        costs[0], costs[1] = 1, row_bytes
        for at in np.flatnonzero(np.isin(births, self.births)).tolist():
            birth = int(births[at])
            parts = (*self._dropped.get(birth, ()), *self._new.get(birth, ()))
            costs[:, at] += len(parts), sum(len(part) for part in parts)
        return costs

    def take(self, births: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """Returns what sessions drop, and what is new."""
        dropped = [part for birth in births for part in self._dropped.pop(birth, ())]
        return dropped, [part for birth in births for part in self._new.pop(birth, ())]


def portions(block: Block, *, without: Collection[int]) -> Iterator[Portion]:
    """Cuts a block into portions; a session's row and its checkpoints are in the same one.

    Args:
        block: What a tick writes.
        without: Births to leave out, for they have ended.
    """
    names = {name.birth: name for name in block.names}
    kept = _Checkpoints(block, without)
    most = np.array([MOST_NAMED_ROWS if names else MOST_ROWS, MOST_BYTES])
    taken: list[Group] = []
    left = most
    for group in block.groups:
        rest = _remaining(group, without)
        costs = kept.costs(rest.rows["birth"], ROW.itemsize + rest.states.shape[1])
        while len(rest.rows):
            count = max(_fitting(costs, left), 0 if taken else 1)
            if count:
                taken.append(_part(rest, slice(None, count)))
                left = left - costs[:, :count].sum(axis=1)
                rest, costs = _part(rest, slice(count, None)), costs[:, count:]
            if len(rest.rows):
                yield _portion(taken, names, kept)
                taken, left = [], most
    if taken:
        yield _portion(taken, names, kept)
    while len(births := kept.births):  # of sessions without a row
        count = max(_fitting(kept.costs(births, 0), most), 1)
        yield Portion(b"", *kept.take(births[:count].tolist()), ())


def _fitting(costs: NDArray[np.int64], left: NDArray[np.int64]) -> int:
    """Returns how many sessions fit into what is left of a portion, given their costs [2, n]."""
    sums = np.cumsum(costs[:, : max(int(left[0]), 0)], axis=1)
    return int((sums <= left[:, None]).all(axis=0).sum())


def _remaining(group: Group, without: Collection[int]) -> Group:
    if not without:
        return group
    kept = ~np.isin(group.rows["birth"], np.fromiter(without, np.uint64, len(without)))
    return Group(group.model, group.version, group.digest, group.rows[kept], group.states[kept])


def _part(group: Group, part: slice) -> Group:
    return Group(group.model, group.version, group.digest, group.rows[part], group.states[part])


def _portion(groups: Sequence[Group], names: dict[int, Name], kept: _Checkpoints) -> Portion:
    packed: list[bytes | EncodedArguments] = []
    births: list[int] = []
    for group in groups:
        description = f"{group.digest} {group.version} {group.model}".encode()
        reference = hashlib.sha256(description).digest()[:8]
        packed += [reference + description, _beginnings(group, reference), _rows_and_states(group)]
        births += group.rows["birth"].tolist()
    named = [_name(names[birth]) for birth in births if birth in names]
    return Portion(b"".join(named), *kept.take(births), packed)


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


def _value(one: StoredCheckpoint) -> bytes:
    origin = one.origin.encode()
    return (
        CHECKPOINT.pack(one.position, one.made_ms, len(one.name.encode()), len(origin)) + origin + one.state
    )
