"""Reads single sessions out of records of the log, and checks what it reads."""

import errno
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from statewise.service.stores import StoreDamaged, StoreVersionError
from statewise.service.stores.sqlite._records import ENTRY, HEADER, Part, header_fits, row_sums, state_sums


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record is, and what it holds.

    Attributes:
        file: Name of its file.
        offset: Of its header in the file.
        length: Bytes.
        parts: Its rows by model version, in order.
    """

    file: str
    offset: int
    length: int
    parts: Sequence[Part]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True, slots=True)
class Logged:
    """A session as a record has it.

    Attributes:
        model: Number of its model version.
        entry: `ENTRY`.
        state: uint8 [bytes of a state]; empty where it was not asked for.
    """

    model: int
    entry: np.void
    state: NDArray[np.uint8]


class LogReader:
    """The files that one call reads; used in a `with`, within one transaction of the database."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self._files: dict[str, int] = {}
        self._records: dict[int, Record] = {}

    def __enter__(self) -> "LogReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)

    def record(self, number: int) -> Record:
        """Returns where a record is; it must be in the database."""
        if number not in self._records:
            query = (
                "SELECT number, file, offset, length, parts FROM records JOIN segments USING (segment) "
                "WHERE number = ?"
            )
            _, file, offset, length, parts = self._connection.execute(query, (number,)).fetchone()
            self._records[number] = Record(file, offset, length, [Part(*part) for part in json.loads(parts)])
        return self._records[number]

    def read(
        self, number: int, positions: NDArray[np.intp], births: NDArray[np.uint64], *, states: bool = True
    ) -> list[Logged | StoreDamaged]:
        """Reads sessions of one record, and checks each of them.

        Args:
            number: Of the record.
            positions: Places among the rows of the record.
            births: Of the sessions that are expected there.
            states: Whether to read the states, too.

        Returns:
            For every position the session, or what is wrong with it.

        Raises:
            StoreVersionError: A newer version has written the record.
        """
        record = self.record(number)
        found: dict[int, Logged | StoreDamaged] = {}
        try:
            if not header_fits(self._bytes(record, HEADER.size, record.offset), record.rows, record.length):
                raise _Unreadable("its header is damaged")
            first, states_at = 0, HEADER.size + record.rows * ENTRY.itemsize
            for part in record.parts:
                chosen = np.flatnonzero((positions >= first) & (positions < first + part.rows))
                if len(chosen):
                    offsets = states_at + (positions[chosen] - first) * part.state_bytes if states else None
                    read = self._part(record, part, positions[chosen], births[chosen], offsets)
                    found.update(zip(chosen.tolist(), read, strict=True))
                first += part.rows
                states_at += part.rows * part.state_bytes
        except _Unreadable as error:
            return [self._damaged(record, birth, str(error)) for birth in births.tolist()]
        except StoreVersionError as error:
            path = self._folder / record.file
            raise StoreVersionError(f"log {path}, record at offset {record.offset}: {error}") from None
        return [found[at] for at in range(len(positions))]

    def _part(
        self,
        record: Record,
        part: Part,
        positions: NDArray[np.intp],
        births: NDArray[np.uint64],
        state_offsets: NDArray[np.intp] | None,
    ) -> list[Logged | StoreDamaged]:
        entries = np.zeros(len(positions), ENTRY)
        entry_bytes = entries.view(np.uint8).reshape(len(positions), ENTRY.itemsize)
        self._fill(record, entry_bytes, HEADER.size + positions * ENTRY.itemsize)
        sums = row_sums(entries["row"])
        good = (sums == entries["row_sum"]) & (entries["row"]["birth"] == births)
        states = np.zeros((len(positions), part.state_bytes if state_offsets is not None else 0), np.uint8)
        if state_offsets is not None:
            self._fill(record, states, state_offsets)
            good &= state_sums(sums, states) == entries["state_sum"]
        wrong = "row and state fail their checksum"
        return [
            Logged(part.model, entry, state) if fits else self._damaged(record, birth, wrong)
            for entry, state, fits, birth in zip(entries, states, good, births.tolist(), strict=True)
        ]

    def _fill(self, record: Record, rows: NDArray[np.uint8], offsets: NDArray[np.intp]) -> None:
        """Fills rows from offsets in a record; what the file lacks stays zero, and fails its sum."""
        size = rows.shape[1]
        if size == 0:
            return
        with _reading():
            descriptor = self._descriptor(record)
            if offsets[-1] - offsets[0] == size * (len(rows) - 1) and (np.diff(offsets) == size).all():
                os.preadv(descriptor, [rows.reshape(-1).data], record.offset + int(offsets[0]))
                return
            for row, offset in zip(rows, offsets.tolist(), strict=True):
                os.preadv(descriptor, [row.data], record.offset + offset)

    def _bytes(self, record: Record, size: int, offset: int) -> bytes:
        with _reading():
            return os.pread(self._descriptor(record), size, offset)

    def _descriptor(self, record: Record) -> int:
        if record.file not in self._files:
            path = self._folder / record.file
            self._files[record.file] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._files[record.file]

    def _damaged(self, record: Record, birth: int, what: str) -> StoreDamaged:
        path = self._folder / record.file
        return StoreDamaged(f"log {path}, record at offset {record.offset}: {what}", [birth])


class _Unreadable(Exception):  # noqa: N818 - named after the situation
    """The file of a record is missing, or its disk does not give it back."""


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EIO):
            raise _Unreadable(error.strerror) from error
        raise


def check_folded(
    births: Sequence[int], packed: Sequence[bytes], states: Sequence[bytes] | None
) -> list[tuple[np.void, NDArray[np.uint8]] | None]:
    """Checks sessions that the database itself holds: `ENTRY` of each, and its state, or None where damaged.

    Without states, the rows alone are checked.
    """
    fitting = [entry if len(entry) == ENTRY.itemsize else bytes(ENTRY.itemsize) for entry in packed]
    entries = np.frombuffer(bytearray().join(fitting), ENTRY)
    sums = row_sums(entries["row"])
    good = (sums == entries["row_sum"]) & (entries["row"]["birth"] == np.array(births, np.uint64))
    found: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)] * len(entries)
    if states is not None:
        sizes = np.array([len(state) for state in states])
        for size in np.unique(sizes).tolist():
            chosen = np.flatnonzero(sizes == size)
            joined = bytearray().join(states[at] for at in chosen.tolist())
            rows = np.frombuffer(joined, np.uint8).reshape(len(chosen), size)
            good[chosen] &= state_sums(sums[chosen], rows) == entries["state_sum"][chosen]
            for at, row in zip(chosen.tolist(), rows, strict=True):
                found[at] = row
    return [(entry, state) if fits else None for entry, state, fits in zip(entries, found, good, strict=True)]
