"""Decides which rows of a block are written, gives names and ends sessions, within a transaction."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statewise.service.stores import ROW, Block, Group
from statewise.service.stores.sqlite._database import Counters, signed
from statewise.service.stores.sqlite._fence import ENDED, Fence
from statewise.service.stores.sqlite._named_checkpoints import write_checkpoints
from statewise.service.stores.sqlite._names import FirstRow, Names, number_of_model
from statewise.service.stores.sqlite._records import Part


@dataclass(frozen=True, slots=True)
class Admitted:
    """What of a block is written.

    Attributes:
        groups: With the rows that are left, none of them empty.
        parts: The same groups, as the database knows them.
        moved: Births whose rows were left out, for they belong to another writer, or have ended earlier.
        kept: Births that were to end, and belong to another writer.
        taken: Takeovers: births of sessions that the block ends, with `ENDED`.
        checkpoint_bytes: Bytes of the named checkpoints that were written.
    """

    groups: Sequence[Group]
    parts: Sequence[Part]
    moved: Sequence[int]
    kept: Sequence[int]
    taken: Sequence[tuple[int, int]]
    checkpoint_bytes: int


def require_rows(block: Block) -> None:
    """Checks that every name comes with a row.

    Raises:
        ValueError: One does not.
    """
    if not block.names:
        return
    named = np.array([name.birth for name in block.names], np.uint64)
    births = np.concatenate([np.zeros(0, np.uint64), *(group.rows["birth"] for group in block.groups)])
    missing = named[~np.isin(named, births)]
    if len(missing):
        raise ValueError(f"expected a row for every name, received none for birth {missing[0]}")


def admit(connection: sqlite3.Connection, counters: Counters, fence: Fence, block: Block) -> Admitted:
    """Gives names, ends sessions, writes checkpoints in the open transaction; chooses the rows to write."""
    fence.read(connection, counters)
    models = [number_of_model(connection, group.model, group.version, group.digest) for group in block.groups]
    names = Names(connection, counters, fence.writer)
    fence.compare(connection, np.array(block.ended, np.uint64))
    ended = [birth for birth in block.ended if not fence.is_theirs(birth)]
    if block.names or ended:
        names.give(block.names, _first_rows(block, models), fence.ended)
        names.end(ended)
    gone = np.array([*ended, *names.ended, *names.refused], np.uint64)
    silent = set(ended)
    groups, parts, moved = [], [], []
    for group, model in zip(block.groups, models, strict=True):
        births = group.rows["birth"]
        fence.compare(connection, births[~np.isin(births, gone)] if len(gone) else births)
        barred = fence.barred(group.rows)
        if len(gone):
            left_out = np.isin(group.rows["birth"], gone)
            barred = left_out if barred is None else barred | left_out
        if barred is not None and barred.any():
            births = group.rows["birth"][barred].tolist()
            moved += [birth for birth in births if birth not in silent or fence.ended(birth)]
            rows, states = group.rows[~barred], group.states[~barred]
            group = Group(group.model, group.version, group.digest, rows, states)
        if len(group.rows):
            groups.append(group)
            parts.append(Part(model, len(group.rows), group.states.shape[1]))
    checkpoints = write_checkpoints(connection, names, block, moved)
    moved += [birth for birth in checkpoints.left_out if birth not in silent and birth not in moved]
    names.write_usage()
    kept = [birth for birth in block.ended if fence.is_theirs(birth) and not fence.ended(birth)]
    taken = [(birth, ENDED) for birth in names.ended]
    return Admitted(groups, parts, moved, kept, taken, checkpoints.stored_bytes)


def _first_rows(block: Block, models: Sequence[int]) -> dict[int, FirstRow]:
    """What the table of sessions holds of new sessions, by birth."""
    if not block.names:
        return {}
    named = np.array([name.birth for name in block.names], np.uint64)
    found: dict[int, FirstRow] = {}
    for group, model in zip(block.groups, models, strict=True):
        stored_bytes = ROW.itemsize + group.states.shape[1]
        for row in group.rows[np.isin(group.rows["birth"], named)]:
            handle, used_ms = signed(int(row["handle"])), signed(int(row["used_ms"]))
            found[int(row["birth"])] = (handle, int(row["epoch"]), used_ms, stored_bytes, model)
    return found
