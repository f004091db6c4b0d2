"""Reads .safetensors files: a JSON header, followed by arrays.

Uses neither the library of that name nor pickle: nothing in the file is executed, and every offset is checked
against the size of the file first. Format: https://huggingface.co/docs/safetensors, "Format".
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from statewise.export.base import Array, SourceError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_safetensors(path: Path) -> dict[str, Array]:
    """Reads the floating-point arrays of a file, as float32, by name; arrays of other types are left out.

    Raises:
        SourceError: no such file, or not of the format.
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
    return raw.astype(np.float32).reshape(shape)
