"""Reads sequences from .npz files, row by row.

There are two layouts. Packed: `inputs` [sum(lengths), ...] with `lengths` [N], or `inputs` [N, T, ...]
without, and optional `ids` [N]; for a model with several inputs, one `inputs.NAME` each. Otherwise every
array of the archive is a sequence, and its name is the id. Packed arrays in Fortran order are held whole.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
                return len(_names(archive))
            lengths = self._lengths(archive)
            if lengths is not None:
                return len(lengths)
            with ExitStack() as opened:
                return int(self._array(opened, archive, columns[0]).shape[0])

    def rows(self, start: int) -> Iterator[FileRow]:
        """Yields ids and sequences in order; in place of an array that cannot be read, the error."""
        with ExitStack() as opened:
            archive = opened.enter_context(self._open())
            columns = [self._array(opened, archive, name) for name in _columns(archive)]
            if columns:
                yield from self._packed(archive, columns, start)
            else:
                for name in islice(_names(archive), start, None):
                    yield FileRow(name, self._sequence(archive, name))

    def _packed(
        self, archive: zipfile.ZipFile, columns: "list[_ArchiveArray]", start: int
    ) -> Iterator[FileRow]:
        lengths, ids = self._lengths(archive), self._ids(archive)
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

    def _sequence(self, archive: zipfile.ZipFile, name: str) -> NDArray[Any] | InvalidInput:
        try:
            return self._whole(archive, name)
        except InvalidInput as error:
            return error

    def _lengths(self, archive: zipfile.ZipFile) -> NDArray[np.int64] | None:
        if "lengths" not in _names(archive):
            return None
        array = self._whole(archive, "lengths")
        whole = array.dtype.kind in "iu" or (array.dtype.kind == "f" and (array == np.trunc(array)).all())
        if array.ndim != 1 or not whole or (array < 0).any():
            got = (
                f"{array.dtype} of shape {list(array.shape)}" if array.ndim != 1 or not whole else array.min()
            )
            raise InvalidInput(
                f"{self._path.name}: expected 'lengths' [N], whole numbers of 0 or more; got {got}"
            )
        return array.astype(np.int64)

    def _ids(self, archive: zipfile.ZipFile) -> NDArray[Any] | None:
        if "ids" not in _names(archive):
            return None
        ids = self._whole(archive, "ids")
        if ids.ndim != 1:
            raise InvalidInput(f"{self._path.name}: expected 'ids' [N]; got shape {list(ids.shape)}")
        if ids.dtype.kind == "S":
            return np.char.decode(ids, "utf-8", "replace")
        return ids if ids.dtype.kind in "biufU" else ids.astype(np.str_)

    def _array(self, opened: ExitStack, archive: zipfile.ZipFile, name: str) -> "_ArchiveArray":
        with _reading(self._path.name, name):
            stream = opened.enter_context(archive.open(name + ".npy"))
            return _ArchiveArray(stream, self._path.name, name)

    def _whole(self, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
        with _reading(self._path.name, name), archive.open(name + ".npy") as stream:
            return _ArchiveArray(stream, self._path.name, name, scalar=True).whole()

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except zipfile.BadZipFile:
            raise InvalidInput(
                f"{self._path.name}: expected an archive of arrays, made by np.savez"
            ) from None


class _ArchiveArray:
    """An array of an archive, read sequentially.

    Args:
        stream: the array's bytes.
        file: the archive's name, for errors.
        name: the array's.
        scalar: the array may have no axes.
    """

    def __init__(self, stream: Any, file: str, name: str, *, scalar: bool = False) -> None:
        self.name = name
        self.per_row = False
        """One value a row, rather than one a time step."""
        self._file = file
        self._stream = stream
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        self.shape, fortran, self._dtype = read(stream)
        if self._dtype.hasobject:
            raise InvalidInput(
                f"{file}: expected numbers or texts in {name!r}; got objects of Python (dtype=object), "
                f"which are not read: store each sequence as an array, or all joined with `lengths`"
            )
        if not (self.shape or scalar):
            raise InvalidInput(f"{file}: expected rows in {name!r}; got a single value")
        self._element_bytes = self._dtype.itemsize * math.prod(self.shape[1:])
        self._taken = 0
        self._held: NDArray[Any] | None = None
        if fortran:
            data = self._read(math.prod(self.shape) * self._dtype.itemsize)
            self._held = np.ascontiguousarray(np.ndarray(self.shape, self._dtype, data, order="F"))

    def take(self, count: int) -> NDArray[Any]:
        """Reads the next elements."""
        if self._held is not None:
            self._taken += count
            return self._held[self._taken - count : self._taken]
        with _reading(self._file, self.name):
            data = self._read(count * self._element_bytes)
        return np.ndarray((count, *self.shape[1:]), self._dtype, data)

    def skip(self, count: int) -> None:
        """Passes over elements."""
        if self._held is not None:
            self._taken += count
            return
        with _reading(self._file, self.name):
            left = count * self._element_bytes
            while left:
                left -= len(self._read(min(left, _SKIP_BYTES)))

    def whole(self) -> NDArray[Any]:
        """Reads all elements."""
        return self.take(self.shape[0]) if self.shape else self.take(1).reshape(())

    def _read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        if len(data) != size:
            raise EOFError("the file ends early")
        return data


@contextmanager
def _reading(file: str, name: str) -> Iterator[None]:
    """Turns every error of reading one array from a damaged file into InvalidInput."""
    try:
        yield
    except (ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"{file}: {name!r} cannot be read: {error}") from None


def _names(archive: zipfile.ZipFile) -> list[str]:
    """Names the arrays of an archive, which may hold other files, too."""
    return [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]


def _columns(archive: zipfile.ZipFile) -> list[str]:
    return [name for name in _names(archive) if name == "inputs" or name.startswith("inputs.")]
