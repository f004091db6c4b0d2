"""Packs rows and states into records of a log file, with a checksum for each session.

A record is a header, an entry for every row, and the states, group after group. A session is read, and
checked, without reading its neighbours. What the record holds, and where, is known to the database.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores import ROW, Group, StoreVersionError

MAGIC = b"swislog\0"
FORMAT = 1
HEADER = struct.Struct("<8sIIQI4x")
"""Magic, format, number of rows, bytes of the record, CRC-32 of what stands before it."""

ENTRY = np.dtype([("row", ROW), ("row_sum", "<u8"), ("state_sum", "<u8")])
"""A row, its checksum, and the checksum of row and state together."""

SEEN = np.dtype([("birth", "<u8"), ("handle", "<u8"), ("used_ms", "<u8")])
"""What the database keeps of every row of a record."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one model version within a record.

    Attributes:
        model: Number of the model version in the database.
        rows: How many.
        state_bytes: Bytes of each state.
    """

    model: int
    rows: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A record that is ready to be written.

    Attributes:
        buffers: Its bytes; those of the states are the caller's.
        length: How many bytes.
        seen: `SEEN` [rows].
    """

    buffers: Sequence[memoryview]
    length: int
    seen: NDArray[np.void]


@lru_cache(maxsize=64)
def _weights(count: int) -> NDArray[np.uint64]:
    """Fixed, random-looking numbers: the output of splitmix64 for the numbers from 1."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def checksums(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Returns uint64 [n] of contiguous uint8 [n, bytes].

    The sum of all 32-bit words, each times a random 64-bit weight, modulo 2^64: any given change of bytes
    goes unnoticed with a probability of about 2^-32, and 11 MB cost half of what a CRC of every session
    costs.
    """
    count, size = rows.shape
    whole = size // 4
    weights = _weights(whole + 1)
    sums = np.zeros(count, np.uint64)
    if whole:
        words = np.ndarray((count, whole), "<u4", rows, strides=(size, 4))
        sums += np.einsum("ij,j->i", words, weights[:-1], dtype=np.uint64)
    if size % 4:
        last = np.zeros((count, 4), np.uint8)
        last[:, : size % 4] = rows[:, whole * 4 :]
        sums += last.view("<u4")[:, 0] * weights[-1]
    return sums


def row_sums(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    """Returns the checksums of `ROW` [n]."""
    return checksums(np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), ROW.itemsize))


def state_sums(sums: NDArray[np.uint64], states: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Returns the checksums of rows and states together: uint64 [n] of the rows', and uint8 [n, bytes]."""
    total: NDArray[np.uint64] = checksums(states) + sums * _weights(1)[0]
    return total


def pack(groups: Sequence[Group]) -> Packed:
    """Packs groups, none of them empty, without copying their states."""
    entries = np.empty(sum(len(group.rows) for group in groups), ENTRY)
    states, start = [], 0
    for group in groups:
        rows = np.ascontiguousarray(group.rows)
        states.append(np.ascontiguousarray(group.states))
        part = entries[start : start + len(rows)]
        part["row"] = rows
        part["row_sum"] = row_sums(rows)
        part["state_sum"] = state_sums(part["row_sum"], states[-1])
        start += len(rows)
    seen = np.empty(len(entries), SEEN)
    for name in SEEN.names or ():
        seen[name] = entries["row"][name]
    length = HEADER.size + entries.nbytes + sum(array.nbytes for array in states)
    head = struct.pack("<8sIIQ", MAGIC, FORMAT, len(entries), length)
    header = HEADER.pack(MAGIC, FORMAT, len(entries), length, zlib.crc32(head))
    buffers = [memoryview(header), *(_bytes_of(array) for array in (entries, *states))]
    return Packed(buffers, length, seen)


def _bytes_of(array: NDArray[np.generic]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def header_fits(header: bytes, rows: int, length: int) -> bool:
    """Says whether bytes are the header of such a record.

    Raises:
        StoreVersionError: It is one of a newer format.
    """
    if len(header) != HEADER.size:
        return False
    magic, form, *counts, crc = HEADER.unpack(header)
    if magic != MAGIC or zlib.crc32(header[: struct.calcsize("<8sIIQ")]) != crc:
        return False
    if form != FORMAT:
        raise StoreVersionError(f"expected records of format {FORMAT}, received format {form}")
    return counts == [rows, length]
