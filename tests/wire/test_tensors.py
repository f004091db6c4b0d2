"""Converts arrays to tensor messages and back; what does not fit together is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.strategies import arrays

from statewise.v1 import tensor_pb2
from statewise.wire import DTYPES, TensorError, from_tensor, to_tensor

FLOAT32 = tensor_pb2.DATA_TYPE_FLOAT32


def test_every_data_type_of_the_contract_has_a_dtype() -> None:
    declared = set(tensor_pb2.DataType.keys()) - {"DATA_TYPE_UNSPECIFIED"}
    assert declared == {f"DATA_TYPE_{name.upper()}" for name in DTYPES}


@given(arrays(max_dims=8, max_side=3))
def test_an_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    message = tensor_pb2.Tensor.FromString(to_tensor(array).SerializeToString())
    back = from_tensor(message)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()  # NaN payloads and the sign of zero included


@pytest.mark.parametrize("name", [name for name in DTYPES if DTYPES[name].itemsize > 1])
def test_bytes_are_little_endian_for_arrays_of_any_byte_order(name: str) -> None:
    values = np.arange(6).reshape(2, 3)
    message = to_tensor(values.astype(DTYPES[name].newbyteorder(">")))
    assert message.data == values.astype(DTYPES[name].newbyteorder("<")).tobytes()
    np.testing.assert_array_equal(from_tensor(message), values)


def test_strided_arrays_travel_in_row_major_order() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (array.T, array[:, ::-1], array[..., ::2], np.asfortranarray(array)):
        np.testing.assert_array_equal(from_tensor(to_tensor(view)), view)


def test_reading_makes_a_view_that_cannot_be_written() -> None:
    array = from_tensor(to_tensor(np.arange(12, dtype=np.float32).reshape(3, 4)))
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1.0


def test_the_view_outlives_its_message() -> None:
    message = to_tensor(np.arange(1000, dtype=np.int64))
    array = from_tensor(message)
    message.Clear()
    del message
    np.testing.assert_array_equal(array, np.arange(1000))


@pytest.mark.parametrize(
    "array",
    [
        np.array(["word"]),
        np.array([object()]),
        np.array([1j]),
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, [("a", "f4")]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_element_types_that_the_wire_lacks_are_refused(array: np.ndarray) -> None:
    with pytest.raises(TensorError, match=r"expected elements of float32, .*; got "):
        to_tensor(array)


@pytest.mark.parametrize("surplus_bytes", [-12, -4, -1, 1, 4])
def test_data_must_fill_the_shape_exactly(surplus_bytes: int) -> None:
    message = tensor_pb2.Tensor(dtype=FLOAT32, shape=[3], data=bytes(12 + surplus_bytes))
    with pytest.raises(TensorError, match=rf"shape \[3\] has 12 bytes; got {12 + surplus_bytes}"):
        from_tensor(message)


@pytest.mark.parametrize("shape", [[-1], [2, -3], [-(2**63)], [1] * 9])
def test_impossible_axes_are_refused(shape: list[int]) -> None:
    with pytest.raises(TensorError, match="expected at most 8 axes of length 0 or more; got shape"):
        from_tensor(tensor_pb2.Tensor(dtype=FLOAT32, shape=shape, data=bytes(4)))


def test_a_huge_announced_shape_is_refused_without_allocating() -> None:
    message = tensor_pb2.Tensor(dtype=FLOAT32, shape=[2**62, 2**62], data=bytes(4))
    with pytest.raises(TensorError, match=f"has {2**126} bytes; got 4"):
        from_tensor(message)


def test_a_shape_no_array_has_is_refused_although_it_is_empty() -> None:
    with pytest.raises(TensorError, match="no array has shape"):
        from_tensor(tensor_pb2.Tensor(dtype=FLOAT32, shape=[0, 2**62, 2**62]))


@pytest.mark.parametrize("number", [0, 13, -1, 2**31 - 1])
def test_unknown_types_are_refused(number: int) -> None:
    message = tensor_pb2.Tensor(shape=[1], data=bytes(4))
    message.dtype = number  # type: ignore[assignment]  # open enum: any int32 may arrive
    with pytest.raises(TensorError, match=f"expected a tensor with a known dtype; got number {number}"):
        from_tensor(message)


any_shape = st.lists(st.integers(-1, 3) | st.integers(-(2**63), 2**63 - 1), max_size=9)


@given(dtype=st.integers(-1, 14), shape=any_shape, data=st.binary(max_size=64))
def test_any_message_is_read_or_refused(dtype: int, shape: list[int], data: bytes) -> None:
    message = tensor_pb2.Tensor(shape=shape, data=data)
    message.dtype = dtype  # type: ignore[assignment]
    try:
        array = from_tensor(message)
    except TensorError:
        return
    assert (list(array.shape), array.tobytes()) == (shape, data)
