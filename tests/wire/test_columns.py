"""Packs and unpacks columns; lengths that are no multiple of an element are refused."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.wire import TensorError, pack_uint32, pack_uint64, unpack_uint32, unpack_uint64


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_uint64_columns_are_little_endian_and_come_back(values: list[int]) -> None:
    column = pack_uint64(values)
    assert column == struct.pack(f"<{len(values)}Q", *values)
    assert unpack_uint64(column).tolist() == values


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_uint32_columns_are_little_endian_and_come_back(values: list[int]) -> None:
    column = pack_uint32(values)
    assert column == struct.pack(f"<{len(values)}I", *values)
    assert unpack_uint32(column).tolist() == values


@pytest.mark.parametrize("dtype", [">u8", "<u8", "int64", "uint32", "uint8"])
def test_arrays_of_any_integer_type_pack_alike(dtype: str) -> None:
    values = np.array([0, 1, 200], dtype)
    assert pack_uint64(values) == pack_uint64([0, 1, 200])
    assert pack_uint32(values) == pack_uint32([0, 1, 200])


def test_generators_pack_too() -> None:
    assert pack_uint32(row for row in range(3)) == pack_uint32([0, 1, 2])


def test_a_strided_array_packs_its_own_rows() -> None:
    assert pack_uint64(np.arange(6, dtype=np.uint64)[::2]) == pack_uint64([0, 2, 4])


@pytest.mark.parametrize(("unpack", "itemsize"), [(unpack_uint32, 4), (unpack_uint64, 8)])
def test_a_torn_column_is_refused(unpack: Callable[[bytes], object], itemsize: int) -> None:
    for length in range(1, itemsize):
        with pytest.raises(TensorError, match=f"{itemsize} bytes a row; got {itemsize + length} bytes"):
            unpack(bytes(itemsize + length))


@pytest.mark.parametrize("unpack", [unpack_uint32, unpack_uint64])
def test_a_column_is_a_view_of_the_bytes_it_was_read_from(unpack: Callable[[bytes], np.ndarray]) -> None:
    column = bytes(range(16))
    rows = unpack(column)
    assert np.shares_memory(rows, np.frombuffer(column, np.uint8))
    assert not rows.flags.writeable


def test_an_absent_column_has_no_rows() -> None:
    assert unpack_uint64(b"").size == 0
    assert pack_uint64([]) == b""


@pytest.mark.parametrize(("pack", "value"), [(pack_uint32, 2**32), (pack_uint64, 2**64), (pack_uint32, -1)])
def test_numbers_that_do_not_fit_are_refused(pack: Callable[[list[int]], bytes], value: int) -> None:
    with pytest.raises(OverflowError):
        pack([value])
