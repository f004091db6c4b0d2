"""Reads sequences from .npz files, row by row.

There are two layouts. Packed: `inputs` [sum(lengths), ...] with `lengths` [N], or `inputs` [N, T, ...]
without, and optional `ids` [N]; for a model with several inputs, one `inputs.NAME` each. Otherwise every
array of the archive is a sequence, and its name is the id.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.bulk._file_row import FileRow
from statewise.client.values import InvalidInput

_SKIP_BYTES = 1 << 20


class NpzFile:
    """A .npz file of either layout.

    Raises:
        InvalidInput: by its methods; the file is no archive of arrays, or their lengths do not agree.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self) -> int:
        """Counts the rows from the arrays' headers."""
        with self._open() as archive:
            columns = _columns(archive)
            if not columns:
                return len(archive.namelist())
            lengths = _whole(archive, "lengths")
            if lengths is not None:
                return len(lengths)
            with archive.open(columns[0] + ".npy") as stream:
                return int(_ArchiveArray(stream, self._path.name, columns[0]).shape[0])

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields ids and sequences in order."""
        with ExitStack() as opened:
            archive = opened.enter_context(self._open())
            names = _columns(archive)
            if names:
                streams = {name: opened.enter_context(archive.open(name + ".npy")) for name in names}
                columns = [_ArchiveArray(stream, self._path.name, name) for name, stream in streams.items()]
                yield from self._packed(archive, columns, start)
            else:
                for entry in islice(archive.namelist(), start, None):
                    name = entry.removesuffix(".npy")
                    yield FileRow(name, _whole(archive, name))

    def _packed(
        self, archive: zipfile.ZipFile, columns: "list[_ArchiveArray]", start: int
    ) -> Iterator[FileRow]:
        lengths, ids = _whole(archive, "lengths"), _whole(archive, "ids")
        names = [column.name for column in columns]
        count = len(lengths) if lengths is not None else columns[0].shape[0]
        expected = count if lengths is None else int(lengths.sum())
        for column in columns:
            # An input without a time axis has one value a row, independent of the lengths.
            column.per_row = lengths is None or (column.shape[0] == count and column.shape[0] != expected)
            if column.shape[0] != (count if column.per_row else expected):
                raise InvalidInput(
                    f"{self._path.name}: expected {expected} time steps in {column.name!r}, the sum of "
                    f"'lengths'; got {column.shape[0]}"
                )
        if ids is not None and len(ids) != count:
            raise InvalidInput(f"{self._path.name}: expected {count} ids; got {len(ids)}")
        for column in columns:
            column.skip(start if lengths is None or column.per_row else int(lengths[:start].sum()))
        for row in range(start, count):
            values = [
                column.take(1)[0] if lengths is None or column.per_row else column.take(int(lengths[row]))
                for column in columns
            ]
            inputs = (
                values[0]
                if names == ["inputs"]
                else {name.removeprefix("inputs."): value for name, value in zip(names, values, strict=True)}
            )
            yield FileRow(None if ids is None else ids[row].item(), inputs)

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except zipfile.BadZipFile:
            raise InvalidInput(
                f"{self._path.name}: expected an archive of arrays, made by np.savez"
            ) from None


class _ArchiveArray:
    """An array of an archive, read sequentially."""

    def __init__(self, stream: Any, file: str, name: str) -> None:
        self.name = name
        self.per_row = False
        """One value a row, rather than one a time step."""
        self._stream = stream
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        self.shape, fortran, self._dtype = read(stream)
        if fortran or not self.shape or self._dtype.hasobject:
            raise InvalidInput(f"{file}: expected rows one after another in {name!r}, in C order")
        self._element_bytes = self._dtype.itemsize * math.prod(self.shape[1:])

    def take(self, count: int) -> NDArray[Any]:
        data = self._stream.read(count * self._element_bytes)
        return np.frombuffer(data, self._dtype).reshape(count, *self.shape[1:])

    def skip(self, count: int) -> None:
        left = count * self._element_bytes
        while left:
            left -= len(self._stream.read(min(left, _SKIP_BYTES)))


def _columns(archive: zipfile.ZipFile) -> list[str]:
    names = [entry.removesuffix(".npy") for entry in archive.namelist()]
    return [name for name in names if name == "inputs" or name.startswith("inputs.")]


def _whole(archive: zipfile.ZipFile, name: str) -> NDArray[Any] | None:
    if name + ".npy" not in archive.namelist():
        return None
    with archive.open(name + ".npy") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array
