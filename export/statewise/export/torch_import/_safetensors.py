"""Reads .safetensors files: a JSON header, followed by arrays.

Uses neither the library of that name nor pickle: nothing in the file is executed, and every offset is checked
against the size of the file first. Format: https://huggingface.co/docs/safetensors, "Format".
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from statewise.export.base import Array, SourceError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_safetensors(path: Path) -> dict[str, Array]:
    """Reads the floating-point arrays of a file, as float32, by name; arrays of other types are left out.

    Raises:
        SourceError: no such file, not of the format, or an array with numbers that are not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(path, f"expected a .safetensors file; {error.strerror}") from None
    header, data = _split(path, content)
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            array = _array(path, name, entry, data)
            if array is not None:
                arrays[name] = array
    _refuse_overlaps(path, header)
    return arrays


def _split(path: Path, content: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= size <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise SourceError(
            path, f"expected a .safetensors header of 2 to {len(content) - 8} bytes; the file says {size}"
        )
    try:
        header = json.loads(content[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise SourceError(path, f"expected a JSON header: {error}") from None
    if not isinstance(header, dict):
        raise SourceError(path, f"expected a JSON object as header; got {type(header).__name__}")
    return header, content[8 + size :]


def _array(path: Path, name: str, entry: Any, data: bytes) -> Array | None:
    """Reads one array as float32; None where its type is not a floating-point one."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sizes = [*shape, begin, end]
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError(f"sizes {sizes}")
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(path, f"tensor {name!r}: expected dtype, shape and data_offsets; {error}") from None
    if dtype not in _DTYPES:
        return None
    kind = np.dtype(_DTYPES[dtype])
    # numpy's prod could overflow on the sizes of a hostile header; Python's integers do not.
    expected = kind.itemsize
    for size in shape:
        expected *= size
    if not begin <= end <= len(data) or end - begin != expected:
        raise SourceError(
            path,
            f"tensor {name!r}: expected {expected} bytes of {dtype} within {len(data)}; "
            f"got bytes {begin} to {end}",
        )
    raw = np.frombuffer(data[begin:end], kind)
    if dtype == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    array = raw.astype(np.float32).reshape(shape)
    wrong = int(np.count_nonzero(~np.isfinite(array)))
    if wrong:
        raise SourceError(path, f"tensor {name!r}: expected finite numbers of float32; {wrong} are not")
    return array


def _refuse_overlaps(path: Path, header: dict[str, Any]) -> None:
    """Raises SourceError where two tensors share bytes, which the format forbids."""
    spans = []
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = _offsets(path, name, entry)
            if begin < end:
                spans.append((begin, end, name))
    for (_, end, name), (begin, _, other) in pairwise(sorted(spans)):
        if begin < end:
            raise SourceError(
                path, f"tensors {name!r} and {other!r}: expected bytes of their own; they overlap"
            )


def _offsets(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """Returns the first byte of a tensor and the one after its last."""
    try:
        begin, end = entry["data_offsets"]
        if not all(type(offset) is int and offset >= 0 for offset in (begin, end)):
            raise ValueError(f"offsets {begin}, {end}")
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(path, f"tensor {name!r}: expected dtype, shape and data_offsets; {error}") from None
    return begin, end
