"""Converts elements to a model's type: what is taken, rounded and refused, and how places are named."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.client.calls.test_inputs import IMAGE, RATE, SAMPLE, TOKEN, VECTOR, reader

from statewise.client import InvalidInput, TensorInfo
from statewise.client.values import Use

BYTE = TensorInfo("x", "uint8", (), per_step=True)
FLAG = TensorInfo("x", "bool", (), per_step=True)
HALF = TensorInfo("x", "float16", (), per_step=True)
NUMBER = TensorInfo("x", "float32", (), per_step=True)
DOUBLE = TensorInfo("x", "float64", (), per_step=True)


class NaTType:
    """Stands for pandas.NaT, which tests do not install."""

    def __repr__(self) -> str:
        return "NaT"


class NAType:
    """Stands for pandas.NA, which no comparison accepts."""

    def __repr__(self) -> str:
        return "<NA>"

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


class Tensor:
    """Stands for another library's array.

    Args:
        outcome: what it gives NumPy, or the exception that it raises instead.
    """

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def objects(*elements: object) -> Any:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        # Floating types round.
        (NUMBER, 0.1, np.float32(0.1)),
        (NUMBER, np.float64(0.1), np.float32(0.1)),
        (NUMBER, 2**40 + 1, 2.0**40),
        (NUMBER, np.int64(2**24 + 1), 2.0**24),
        (NUMBER, 2**70, 2.0**70),
        (NUMBER, 1e-300, 0.0),
        (NUMBER, -0.0, -0.0),
        (NUMBER, np.longdouble("0.1"), np.float32(0.1)),
        (NUMBER, np.float16(0.1), np.float32(np.float16(0.1))),
        (NUMBER, ml_dtypes.bfloat16(0.1), np.float32(ml_dtypes.bfloat16(0.1))),
        (NUMBER, True, 1.0),
        (NUMBER, np.True_, 1.0),
        (NUMBER, np.uint64(2**63), 2.0**63),
        (NUMBER, Decimal("0.1"), np.float32(0.1)),
        (NUMBER, Fraction(1, 4), 0.25),
        (HALF, 65504, 65504.0),
        (HALF, 0.1, np.float16(0.1)),
        (DOUBLE, np.float32(0.1), float(np.float32(0.1))),
        (DOUBLE, 2**53 + 1, 2.0**53),
        # Other types take what they hold exactly.
        (TOKEN, 3, 3),
        (TOKEN, 3.0, 3),
        (TOKEN, np.float32(3), 3),
        (TOKEN, -(2**63), -(2**63)),
        (TOKEN, -(2.0**63), -(2**63)),
        (TOKEN, np.uint64(2**63 - 1), 2**63 - 1),
        (TOKEN, True, 1),
        (TOKEN, ml_dtypes.int4(3), 3),
        (TOKEN, Decimal(3), 3),
        (BYTE, 255, 255),
        (BYTE, 255.0, 255),
        (FLAG, 1, True),
        (FLAG, 0.0, False),
        (FLAG, np.True_, True),
    ],
)
def test_a_number_is_taken(spec: TensorInfo, value: object, expected: float) -> None:
    for given in (value, np.array(value), objects(value)[0], [value], objects(value)):
        (column,) = reader(spec).read(given, Use.SESSION).columns
        assert column.dtype == np.dtype(spec.dtype)
        assert column.tolist() == [float(expected) if column.dtype.kind == "f" else expected]


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        (NUMBER, 1e300, r"expected numbers that float32 holds; got 1e\+300"),
        (NUMBER, -1e39, r"expected numbers that float32 holds; got -1e\+39"),
        (NUMBER, 10**400, "expected numbers that float32 holds; got 1000"),
        (NUMBER, Decimal("1e400"), r"expected numbers that float32 holds; got Decimal\('1E\+400'\)"),
        (HALF, 65520, "expected numbers that float16 holds; got 65520"),
        (TOKEN, 1.5, r"expected whole numbers that int64 holds; got 1\.5"),
        (TOKEN, 2.0**63, "expected whole numbers that int64 holds; got 9.22"),
        (TOKEN, np.uint64(2**63), "expected whole numbers that int64 holds; got 9223372036854775808"),
        (TOKEN, 2**64, "expected whole numbers that int64 holds; got 1.84"),
        (TOKEN, float("inf"), "expected whole numbers that int64 holds; got inf"),
        (TOKEN, float("nan"), r"expected numbers; got a missing value \(nan\)"),
        (BYTE, -1, "expected whole numbers that uint8 holds; got -1"),
        (BYTE, 256.0, r"expected whole numbers that uint8 holds; got 256\.0"),
        (FLAG, 2, "expected whole numbers that bool holds; got 2"),
        (NUMBER, "1.5", r"expected numbers; got text \('1.5'\)"),
        (NUMBER, b"1.5", r"expected numbers; got text \(b'1.5'\)"),
        (TOKEN, "a", r"expected numbers; got text \('a'\)"),
        (NUMBER, 1j, "expected numbers; got elements of type complex128"),
        (NUMBER, np.datetime64("2026-01-01"), r"expected numbers; got elements of type datetime64\[D\]"),
        (NUMBER, np.timedelta64(3, "s"), r"expected numbers; got elements of type timedelta64\[s\]"),
        (NUMBER, {1.5}, r"expected numbers; got \{1\.5\} \(set\)"),
        (NUMBER, object(), r"expected numbers; got <object .*> \(object\)"),
        (NUMBER, lambda: 1, r"expected numbers; got <function .*> \(function\)"),
        (NUMBER, np.zeros(2, [("u", "f4"), ("v", "f4")]), r"expected numbers; got elements of type \[\('u',"),
        (NUMBER, np.zeros(2, "V4"), r"expected numbers; got elements of type \|V4"),
        (
            NUMBER,
            Tensor(RuntimeError("it requires grad")),
            "expected numbers; got a .* that is no array: it requires grad",
        ),
        (NUMBER, Tensor(KeyError("x")), "expected numbers; got a .* that is no array: 'x'"),
        (NUMBER, Tensor("text"), "expected numbers; got a .* that is no array"),
    ],
)
def test_what_the_type_does_not_hold_is_refused(spec: TensorInfo, value: object, message: str) -> None:
    for given in (value, [value]):
        with pytest.raises(InvalidInput, match=message) as caught:
            reader(spec).read(given, Use.SESSION)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (None, "None"),
        (NaTType(), "NaT"),
        (NAType(), "<NA>"),
        (np.datetime64("NaT"), "NaT"),
        (np.timedelta64("NaT"), "NaT"),
    ],
)
def test_a_missing_value_is_called_so(missing: object, words: str) -> None:
    array = np.zeros((4, 3)).astype(object)
    array[2, 1] = missing
    told = rf"^input 'x': expected numbers; got a missing value \({words}\) at step 2, column 1$"
    for value in (array, array.tolist()):
        with pytest.raises(InvalidInput, match=told):
            reader(VECTOR).read(value, Use.SESSION)


def test_arrays_of_times_are_told_from_missing_ones() -> None:
    with pytest.raises(InvalidInput, match=r"got a missing value \(NaT\) at step 1$"):
        reader(NUMBER).read(np.array(["2026-01-01", "NaT"], "M8[s]"), Use.SESSION)


def test_masked_values_are_missing() -> None:
    whole = np.ma.array(np.ones((4, 3)))
    holed = np.ma.array(np.ones((4, 3)), mask=np.arange(12).reshape(4, 3) == 7)
    assert reader(VECTOR).read(whole, Use.SESSION).columns[0].tolist() == [[1] * 3] * 4
    assert reader(VECTOR).read([whole, whole], Use.PREDICT).steps.tolist() == [4, 4]
    cases: list[tuple[object, Use, str]] = [
        (holed, Use.SESSION, "step 2, column 1"),
        (list(holed), Use.SESSION, "step 2, column 1"),
        ([whole, holed], Use.PREDICT, "row 1, step 2, column 1"),
        ([list(whole), list(holed)], Use.PREDICT, "row 1, step 2, column 1"),
    ]
    for value, use, place in cases:
        with pytest.raises(InvalidInput, match=rf"got a missing value \(masked\) at {place}$"):
            reader(VECTOR).read(value, use)


def holed(shape: tuple[int, ...], place: tuple[int, ...]) -> list[Any]:
    array = np.zeros(shape).astype(object)
    array[place] = None
    nested: list[Any] = array.tolist()
    return nested


@pytest.mark.parametrize(
    ("spec", "use", "shape", "at", "place"),
    [
        (VECTOR, Use.SESSION, (3,), (2,), "column 2"),
        (VECTOR, Use.SESSION, (5, 3), (4, 2), "step 4, column 2"),
        (VECTOR, Use.PREDICT, (5, 3), (4, 2), "step 4, column 2"),
        (VECTOR, Use.PREDICT, (4000, 5, 3), (3999, 4, 2), "row 3999, step 4, column 2"),
        (VECTOR, Use.GROUP, (4, 3), (3, 2), "row 3, column 2"),
        (VECTOR, Use.GROUP, (4, 5, 3), (3, 4, 2), "row 3, step 4, column 2"),
        (TOKEN, Use.SESSION, (5,), (4,), "step 4"),
        (TOKEN, Use.PREDICT, (2, 5), (1, 4), "row 1, step 4"),
        (TOKEN, Use.GROUP, (4,), (3,), "row 3"),
        (SAMPLE, Use.PREDICT, (3,), (2,), "column 2"),
        (SAMPLE, Use.PREDICT, (6, 3), (5, 2), "row 5, column 2"),
        (RATE, Use.PREDICT, (6,), (5,), "row 5"),
        (IMAGE, Use.SESSION, (5, 2, 2), (4, 1, 0), r"step 4, element \[1, 0\]"),
        (IMAGE, Use.PREDICT, (3, 5, 2, 2), (2, 4, 1, 0), r"row 2, step 4, element \[1, 0\]"),
    ],
)
def test_the_place_of_an_element_is_named(
    spec: TensorInfo, use: Use, shape: tuple[int, ...], at: tuple[int, ...], place: str
) -> None:
    rows = holed(shape, at)
    # Arrays keep a NaN, which is the server's to refuse.
    numbers = np.nan_to_num(np.array(rows, float), nan=1e300)
    for value in (rows, np.array(rows, object), numbers):
        with pytest.raises(InvalidInput, match=f"at {place}$"):
            reader(spec).read(value, use, count=4)


def test_ragged_rows_have_their_number() -> None:
    rows = [np.zeros((2, 3)), holed((4, 3), (3, 1))]
    with pytest.raises(InvalidInput, match=r"missing value \(None\) at row 1, step 3, column 1$"):
        reader(VECTOR).read(rows, Use.PREDICT)
    with pytest.raises(InvalidInput, match=r"missing value \(None\) at row 1, step 3, column 1$"):
        reader(VECTOR).read(objects(*map(np.array, rows)), Use.PREDICT)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([[1, 2, 3], [1, 2]], "element 0 is 3 long, element 1 2 long"),
        ([[1, 2, 3], None], r"element 0 is 3 long, element 1 a missing value \(None\)"),
        ([[1, 2, 3], 4], "element 0 is 3 long, element 1 a single value"),
        ([[[1, 2], [3]], [[4], [5]]], "in element 0, element 0 is 2 long, element 1 1 long"),
    ],
)
def test_where_a_list_is_irregular_is_told(value: object, found: str) -> None:
    with pytest.raises(InvalidInput, match=rf"a list of no regular shape \({found}\)"):
        reader(VECTOR).read(value, Use.SESSION)


X = np.arange(15, dtype=np.float32).reshape(5, 3)
LAYOUTS = {
    "Fortran order": np.asfortranarray(X),
    "not contiguous": np.repeat(X, 2, axis=1)[:, ::2],
    "backwards": X[::-1].copy()[::-1],
    "byte-swapped": X.astype(">f4"),
    "objects": X.astype(object),
    "object of rows": objects(*X),
    "list of lists": X.tolist(),
    "list of arrays": list(X),
    "masked": np.ma.array(X),
    "matrix": X.view(np.matrix),
    "memory": X.data,
    "another library's": Tensor(X),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read_right(name: str) -> None:
    value = LAYOUTS[name]
    for use in (Use.SESSION, Use.PREDICT):
        (column,) = reader(VECTOR).read(value, use).columns
        np.testing.assert_array_equal(column, X)
        assert column.flags.c_contiguous
        assert column.dtype == np.float32
    bulk = reader(VECTOR).column_of_sequence(value)
    assert bulk is None or (bulk is value and bulk.flags.c_contiguous)
    (batch,) = reader(VECTOR).read([value, value], Use.PREDICT).columns
    np.testing.assert_array_equal(batch, np.concatenate([X, X]))


def test_a_read_only_array_is_taken_as_it_is() -> None:
    frozen = X.copy()
    frozen.flags.writeable = False
    assert reader(VECTOR).read(frozen, Use.SESSION).columns[0].base is frozen


def test_a_single_value_is_no_sequence() -> None:
    assert reader(TOKEN).column_of_sequence(np.array(3)) is None
    with pytest.raises(InvalidInput, match=r"got int64 of shape \[\]"):
        reader(TOKEN).read(np.array(3), Use.PREDICT)
