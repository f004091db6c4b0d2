"""Packs columns of integers, one a row, little-endian, into a `bytes` field, and unpacks them.

A repeated field would cost a Python object a row, and messages hold thousands of rows. Columns are unpacked
without a copy, so the arrays are read-only.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.wire._tensors import TensorError

_UINT64 = np.dtype("<u8")
_UINT32 = np.dtype("<u4")


def pack_uint64(values: NDArray[np.uint64] | Iterable[int]) -> bytes:
    """Packs non-negative integers below 2**64, 8 bytes a row."""
    return _pack(values, _UINT64)


def pack_uint32(values: NDArray[np.uint32] | Iterable[int]) -> bytes:
    """Packs non-negative integers below 2**32, 4 bytes a row."""
    return _pack(values, _UINT32)


def unpack_uint64(column: bytes) -> NDArray[np.uint64]:
    """Reads a column of 8 bytes a row. Raises TensorError for a length that is no multiple of 8."""
    return _unpack(column, _UINT64)


def unpack_uint32(column: bytes) -> NDArray[np.uint32]:
    """Reads a column of 4 bytes a row. Raises TensorError for a length that is no multiple of 4."""
    return _unpack(column, _UINT32)


def _pack(values: NDArray[Any] | Iterable[int], dtype: np.dtype[Any]) -> bytes:
    array = values if isinstance(values, np.ndarray) else np.array(list(values), dtype=dtype)
    return array.astype(dtype, copy=False).tobytes()


def _unpack(column: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(column) % dtype.itemsize:
        raise TensorError(
            f"expected a packed column of {dtype.itemsize} bytes a row; got {len(column)} bytes"
        )
    return np.frombuffer(column, dtype)
