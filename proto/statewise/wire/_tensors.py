"""Converts arrays to tensor messages and back.

Reading does not copy: the array is a read-only view of the message's bytes and keeps them alive.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.v1 import tensor_pb2

_MAX_AXES = 8

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        "float32",
        "float64",
        "float16",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    )
}
"""Little-endian element types, by the names that packages use."""

_DTYPE_OF_NUMBER: dict[tensor_pb2.DataType.ValueType, np.dtype[Any]] = {
    tensor_pb2.DataType.Value(f"DATA_TYPE_{name.upper()}"): dtype for name, dtype in DTYPES.items()
}
_NUMBER_OF_DTYPE = {dtype: number for number, dtype in _DTYPE_OF_NUMBER.items()}


class TensorError(ValueError):
    """A tensor's or column's parts do not fit together, or the wire has no such element type."""


def to_tensor(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """Packs an array of any shape.

    Raises:
        TensorError: the wire has no such element type (objects, strings, complex numbers).
    """
    tensor = tensor_pb2.Tensor()
    fill_tensor(tensor, array)
    return tensor


def fill_tensor(tensor: tensor_pb2.Tensor, array: NDArray[Any]) -> None:
    """Packs an array into an empty tensor; one inside a message already is not copied again.

    Raises:
        TensorError: the wire has no such element type (objects, strings, complex numbers).
    """
    number = _NUMBER_OF_DTYPE.get(array.dtype)
    if number is None:
        number = _NUMBER_OF_DTYPE.get(array.dtype.newbyteorder("<"))
        if number is None:
            raise TensorError(f"expected elements of {', '.join(DTYPES)}; got {array.dtype}")
        array = array.astype(array.dtype.newbyteorder("<"))
    tensor.dtype = number
    tensor.shape.extend(array.shape)
    tensor.data = array.tobytes()


def from_tensor(tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """Reads a tensor as a read-only view of its bytes.

    Raises:
        TensorError: unknown type, a negative or ninth axis, or bytes that do not fill the shape exactly.
    """
    dtype = _DTYPE_OF_NUMBER.get(tensor.dtype)
    if dtype is None:
        raise TensorError(f"expected a tensor with a known dtype; got number {tensor.dtype}")
    shape = tuple(tensor.shape)
    data = tensor.data
    if len(shape) > _MAX_AXES or min(shape, default=0) < 0:
        raise TensorError(f"expected at most {_MAX_AXES} axes of length 0 or more; got shape {list(shape)}")
    expected_bytes = math.prod(shape) * dtype.itemsize
    if len(data) != expected_bytes:
        raise TensorError(
            f"a {dtype.name} tensor of shape {list(shape)} has {expected_bytes} bytes; got {len(data)}"
        )
    try:
        return np.ndarray(shape, dtype, data)
    except ValueError as error:  # no elements, yet axes whose product no array can have
        raise TensorError(f"no array has shape {list(shape)}: {error}") from None
