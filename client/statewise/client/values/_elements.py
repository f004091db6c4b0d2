"""Converts callers' values to arrays of a model's element type, or says which element does not fit.

A floating type takes any number, rounded to the nearest that it holds. Other types take whole numbers only.
NaN and infinity stay in arrays of a floating type: the server refuses them, and only the row that has them.
"""

import math
import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.values._arguments import brief
from statewise.client.values._errors import InvalidInput
from statewise.client.values._info import TensorInfo

_DEEPEST = 8
"""Axes that a tensor may have: lists that are nested deeper are not searched."""


class UnfitError(Exception):
    """A value that does not fit, or one element of it.

    Attributes:
        expected: what a model takes; None: an array of a suitable shape.
        got: what came instead.
        index: of the element; empty: the value as a whole.
        ndim: axes of the value, as far as `index` is given.
    """

    def __init__(self, expected: str | None, got: str, index: tuple[int, ...] = (), ndim: int = 0) -> None:
        super().__init__(expected, got, index, ndim)
        self.expected, self.got, self.index, self.ndim = expected, got, index, ndim


def as_elements(value: object, wanted: np.dtype[Any]) -> NDArray[Any]:
    """Converts a value to a C-ordered array; it is the value itself if nothing is to be converted.

    Raises:
        UnfitError: the value is no regular array, or has an element that `wanted` does not hold.
    """
    array = _numbers(value, wanted)
    if array.dtype == wanted:
        return np.asarray(array, order="C")
    return _rounded(array, wanted) if wanted.kind == "f" else _exact(array, wanted)


def place_of(unfit: UnfitError, spec: TensorInfo, row: int | None, *, several: bool) -> str:
    """Names the place of an element: " at row 3, step 17, column 2", as far as it has these.

    Args:
        unfit: the error about the element.
        spec: the input that the value is for.
        row: which row of a list the value is; None: it is the whole.
        several: whether the first axis of the value is one of rows.
    """
    words = [] if row is None else [f"row {row}"]
    if unfit.index:
        names = ["row"] if several and row is None else []
        names += ["step"] * (unfit.ndim - len(spec.shape) - len(names))
        if unfit.ndim >= len(spec.shape) and names.count("step") <= spec.per_step:
            words += [f"{name} {at}" for name, at in zip(names, unfit.index, strict=False)]
            sample = unfit.index[len(names) :]
        else:
            sample = unfit.index
        if sample:
            words.append(f"column {sample[0]}" if len(sample) == 1 else f"element {list(sample)}")
    return f" at {', '.join(words)}" if words else ""


def element_error(array: NDArray[Any], wrong: NDArray[np.bool_], expected: str) -> UnfitError:
    """Makes the error about the first wrong element."""
    index = _index(int(wrong.argmax()), array)
    # NaN and NaT alone differ from themselves.
    element = array[index]
    missing = bool(element != element)
    got = f"a missing value ({element})" if missing else brief(element.item())
    return UnfitError(expected, got, index, array.ndim)


def check_finite(specs: Sequence[TensorInfo], columns: Sequence[NDArray[Any]]) -> None:
    """Raises InvalidInput for a NaN or infinity in a sequence that goes in several requests.

    The server would find it when the requests before are applied, and count its step from one request's.
    """
    for spec, column in zip(specs, columns, strict=True):
        if not (spec.per_step and column.dtype.kind == "f"):
            continue
        finite = np.isfinite(column)
        if not finite.all():
            unfit = element_error(column, ~finite, "finite numbers")
            place = place_of(unfit, spec, None, several=False)
            raise InvalidInput(f"input {spec.name!r}: expected {unfit.expected}; got {unfit.got}{place}")


def axes_of(value: object) -> int | None:
    """Returns the number of axes of a value; None: it has no regular shape."""
    try:
        return np.ndim(value)  # type: ignore[arg-type]
    except Exception:  # arrays of other libraries raise errors of any type
        return None


def _rounded(array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", under="ignore"):
        converted = np.asarray(array, wanted, order="C")
    finite = np.isfinite(converted)
    if not finite.all():
        beyond = ~finite & np.isfinite(array)
        if beyond.any():
            raise element_error(array, beyond, f"numbers that {wanted.name} holds")
    return converted


def _exact(array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any]:
    least, most = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
    if array.dtype.kind == "f":
        array = array.astype(np.promote_types(array.dtype, np.float64))
        missing = np.isnan(array)
        if missing.any():
            raise element_error(array, missing, "numbers")
        # The type's limits are powers of two, which floating types hold; the greatest integer they may not.
        good = (array >= float(least)) & (array < float(most + 1)) & (array == np.trunc(array))
    else:
        good = (array >= least) & (array <= most)
    if not good.all():
        raise element_error(array, ~good, f"whole numbers that {wanted.name} holds")
    return np.asarray(array, wanted, order="C")


def _numbers(value: object, wanted: np.dtype[Any]) -> NDArray[Any]:
    """Converts a value to an array of some type of numbers."""
    if _is_masked(value, _DEEPEST):
        value = _unmasked(value, wanted)
    array = _array(value)
    kind = array.dtype.kind
    if kind == "O":
        return _of_objects(array, wanted)
    if kind in "mM" and np.isnat(array).any():
        raise element_error(array, np.isnat(array), "numbers")
    if kind == "V" and array.dtype.names is None and np.can_cast(array.dtype, np.float64):
        return array.astype(np.float64)  # bfloat16 and the like, types that NumPy itself does not have
    if kind not in "biuf":
        raise UnfitError("numbers", _type_words(array))
    return array


def _array(value: object) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except Exception as error:  # arrays of other libraries raise errors of any type
        if isinstance(value, list | tuple):
            irregular = _irregularity(value)
            if irregular is not None:
                raise UnfitError(None, f"a list of no regular shape ({irregular})") from None
        raise UnfitError("numbers", f"a {type(value).__name__} that is no array: {error}") from None


def _is_masked(value: object, deepest: int) -> bool:
    """Returns whether a value is a masked array, or a list that holds one: NumPy drops their masks."""
    if not isinstance(value, list | tuple):
        return isinstance(value, np.ma.MaskedArray)
    if not deepest or not value or not isinstance(value[0], list | tuple | np.ndarray):
        return False
    return any(_is_masked(element, deepest - 1) for element in value)


def _unmasked(value: Any, wanted: np.dtype[Any]) -> Any:
    if not isinstance(value, np.ma.MaskedArray):
        return [_at(index, element, wanted) for index, element in enumerate(value)]
    mask = np.ma.getmaskarray(value)
    if mask.dtype == np.bool_ and mask.any():
        raise UnfitError("numbers", "a missing value (masked)", _index(int(mask.argmax()), mask), mask.ndim)
    return np.ma.getdata(value)


def _at(index: int, element: object, wanted: np.dtype[Any]) -> NDArray[Any]:
    try:
        return _numbers(element, wanted)
    except UnfitError as unfit:
        raise UnfitError(unfit.expected, unfit.got, (index, *unfit.index), unfit.ndim + 1) from None


def _of_objects(array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any]:
    elements = array.reshape(-1).tolist()
    if any(isinstance(element, list | tuple | np.ndarray) for element in elements):
        return _numbers(array.tolist(), wanted)
    for number, element in enumerate(elements):
        got = None
        if _is_missing(element):
            got = f"a missing value ({element})"
        elif not isinstance(element, numbers.Real | np.bool_ | Decimal):
            got = f"{brief(element)} ({type(element).__name__})"
        if got is not None:
            raise UnfitError("numbers", got, _index(number, array), array.ndim)
    return _of_numbers(elements, array, wanted)


def _of_numbers(elements: list[Any], array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any]:
    if all(isinstance(element, numbers.Integral) for element in elements):
        for kind in (np.int64, np.uint64):
            try:
                return np.array(elements, kind).reshape(array.shape)
            except OverflowError:
                pass
    floats = np.empty(len(elements))
    for number, element in enumerate(elements):
        try:
            floats[number] = float(element)
            beyond = math.isinf(floats[number]) and element != floats[number]
        except (OverflowError, ValueError):  # too large, or a signalling NaN
            beyond = True
        if beyond:
            got, expected = brief(element), f"numbers that {wanted.name} holds"
            raise UnfitError(expected, got, _index(number, array), array.ndim)
    return floats.reshape(array.shape)


def _is_missing(element: object) -> bool:
    """Returns whether an object stands for a missing value; a NaN is a number as far as types go."""
    if isinstance(element, np.datetime64 | np.timedelta64):
        return bool(np.isnat(element))
    # pandas is no dependency: its NaT and NA are known by the names of their types.
    return element is None or element is np.ma.masked or type(element).__name__ in ("NaTType", "NAType")


def _index(number: int, array: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.unravel_index(number, array.shape))


def _type_words(array: NDArray[Any]) -> str:
    if array.dtype.kind in "SUT":
        return f"text ({brief(array.reshape(-1)[0].item())})" if array.size else "text"
    return f"elements of type {array.dtype}"


def _irregularity(rows: Any, deepest: int = _DEEPEST) -> str | None:
    """Describes the first two elements of a nested list that differ in length; None: no such two."""
    lengths = [_length(row) for row in rows]
    for number, length in enumerate(lengths):
        if length != lengths[0]:
            return f"element 0 is {_length_words(rows[0])}, element {number} {_length_words(rows[number])}"
    if not deepest or not lengths or lengths[0] is None:
        return None
    within = ((number, _irregularity(row, deepest - 1)) for number, row in enumerate(rows))
    return next((f"in element {number}, {found}" for number, found in within if found), None)


def _length(row: Any) -> int | None:
    if isinstance(row, np.ndarray):
        return len(row) if row.ndim else None
    return len(row) if isinstance(row, list | tuple) else None


def _length_words(row: Any) -> str:
    if _is_missing(row):
        return f"a missing value ({row})"
    length = _length(row)
    return "a single value" if length is None else f"{length} long"
