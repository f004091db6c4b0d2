"""Reads arbitrary bytes: they are valid, or refused with a typed error."""

import json
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.v1 import tensor_pb2
from statewise.wire import (
    CallShape,
    MetadataError,
    ModelSpec,
    StatePair,
    TensorError,
    TensorSpec,
    from_tensor,
    unpack_uint32,
    unpack_uint64,
)

sizes = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-2, 8))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 14), st.lists(sizes, max_size=12), st.binary())
def test_any_tensor_is_an_array_of_its_bytes_or_refused(dtype: int, shape: list[int], data: bytes) -> None:
    try:
        kind = cast("tensor_pb2.DataType.ValueType", dtype)
        array = from_tensor(tensor_pb2.Tensor(dtype=kind, shape=shape, data=data))
    except TensorError:
        return
    assert list(array.shape) == shape
    assert array.nbytes == len(data)
    assert array.tobytes() == data


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 40))
def test_a_tensor_is_refused_exactly_where_shape_and_bytes_disagree(shape: list[int], size: int) -> None:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT16, shape=shape, data=bytes(size))
    if np.prod(shape, dtype=int) * 2 == size:
        assert from_tensor(tensor).shape == tuple(shape)
    else:
        with pytest.raises(TensorError):
            from_tensor(tensor)


@given(st.binary(max_size=100))
def test_any_column_is_its_numbers_or_refused(column: bytes) -> None:
    for unpack, width in ((unpack_uint32, 4), (unpack_uint64, 8)):
        if len(column) % width:
            with pytest.raises(TensorError):
                unpack(column)
        else:
            assert unpack(column).tobytes() == column


@given(st.text() | json_values.map(json.dumps))
def test_any_metadata_are_a_specification_or_refused(text: str) -> None:
    with pytest.raises(MetadataError):
        ModelSpec.from_json(text)


SPEC = ModelSpec(
    inputs=(TensorSpec("x", "float32", (3,)),),
    outputs=(TensorSpec("y", "float32", (2,)),),
    state=(StatePair("h", "h_out", "float32", (8,)),),
    call_shapes=(CallShape.MANY_TO_MANY,),
    lengths="lengths",
)


@given(st.data())
def test_metadata_that_are_nearly_right_are_a_specification_or_refused(data: st.DataObject) -> None:
    claims = json.loads(SPEC.to_json())
    assert ModelSpec.from_json(json.dumps(claims)) == SPEC
    place = data.draw(st.sampled_from([claims, claims["inputs"][0], claims["state"][0]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_values)
    try:
        spec = ModelSpec.from_json(json.dumps(claims))
    except MetadataError:
        return
    assert ModelSpec.from_json(spec.to_json()).to_json() == spec.to_json()
