"""Keeps the named checkpoints of sessions in the database; all within a transaction.

They are in a table, not in the log: each is written once. A trigger ends them with their session, so nothing
that ends a session can forget them; nor does an earlier build, which knows none.
"""

import json
import sqlite3
import struct
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from statewise.service.stores import Block, StoreDamaged, StoredCheckpoint
from statewise.service.stores.sqlite._database import signed, unsigned
from statewise.service.stores.sqlite._names import Names


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the named checkpoints of a block.

    Attributes:
        left_out: Births whose checkpoints were neither written nor dropped.
        stored_bytes: Bytes that were written.
    """

    left_out: Collection[int]
    stored_bytes: int


def write_checkpoints(
    connection: sqlite3.Connection, names: Names, block: Block, without: Collection[int]
) -> Kept:
    """Drops and writes the checkpoints of those sessions that belong to the writer.

    Args:
        connection: Of the transaction.
        names: Count what owners have.
        block: What a tick writes; its names have been given, its sessions ended.
        without: Births whose rows were left out.
    """
    births = {one.birth for one in block.checkpoints} | {birth for birth, _ in block.dropped}
    if not births:
        return Kept((), 0)
    owners = names.owners_of(births - set(without))
    changes = defaultdict[int, int](int)
    remove = "DELETE FROM checkpoints WHERE birth = ? AND name = ? RETURNING bytes"
    for birth, name in (*block.dropped, *((one.birth, one.name) for one in block.checkpoints)):
        if birth in owners:
            for (dropped_bytes,) in connection.execute(remove, (signed(birth), name)).fetchall():
                changes[birth] -= dropped_bytes
    written = {(one.birth, one.name): one for one in block.checkpoints if one.birth in owners}.values()
    connection.executemany(
        "INSERT INTO checkpoints (birth, name, position, made_ms, origin, bytes, sum, state) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                signed(one.birth),
                one.name,
                signed(one.position),
                one.made_ms,
                one.origin,
                one.size_bytes,
                _sum(one),
                one.state,
            )
            for one in written
        ),
    )
    for one in written:
        changes[one.birth] += one.size_bytes
    for birth, change in changes.items():
        names.count_bytes(birth, owners[birth], change)
    return Kept(births - owners.keys(), sum(one.size_bytes for one in written))


def read_checkpoints(
    connection: sqlite3.Connection, path: Path, births: Sequence[int]
) -> tuple[dict[int, list[StoredCheckpoint]], list[StoreDamaged]]:
    """Returns the checkpoints of sessions by birth, in the order in which they were made, and the damage."""
    found = defaultdict[int, list[StoredCheckpoint]](list)
    damaged: list[StoreDamaged] = []
    for one, fits in _rows_of(connection, births):
        found[one.birth].append(one)
        if not fits:
            what = f"checkpoint {one.name!r} of session {one.birth} fails its checksum"
            damaged.append(StoreDamaged(f"store {path}: {what}", [one.birth]))
    return found, damaged


def _rows_of(
    connection: sqlite3.Connection, births: Sequence[int]
) -> Iterator[tuple[StoredCheckpoint, bool]]:
    """Gives the checkpoints of sessions, and whether each fits its checksum."""
    query = (
        "SELECT birth, name, position, made_ms, origin, state, sum FROM checkpoints "
        "WHERE birth IN (SELECT value FROM json_each(?)) ORDER BY birth, made_ms, name"
    )
    wanted = json.dumps([signed(birth) for birth in births])
    for birth, name, position, made_ms, origin, state, stored_sum in connection.execute(query, (wanted,)):
        one = StoredCheckpoint(unsigned(birth), name, unsigned(position), made_ms, origin, state)
        yield one, _sum(one) == stored_sum


def _sum(one: StoredCheckpoint) -> int:
    """Returns the CRC-32 of all that a checkpoint is."""
    name, origin = one.name.encode(), one.origin.encode()
    head = struct.pack("<QQQII", one.birth, one.position, one.made_ms, len(name), len(origin))
    return zlib.crc32(one.state, zlib.crc32(head + name + origin))
