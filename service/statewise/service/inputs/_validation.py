"""Checks a request's inputs against a model's spec: types and shapes of the request, values row by row.

Values are checked because onnxruntime does not: it turns NaN into finite numbers, and a token outside the
vocabulary fails the rows that share its run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, RaggedColumns, RowFailure, ServiceError, model_fault
from statewise.wire import DTYPES, ModelSpec, Reason, TensorSpec


def arrange_inputs(spec: ModelSpec, named: Mapping[str, Array], *, rows: int, time_steps: int) -> list[Array]:
    """Puts inputs into the spec's order, and checks the type and shape of each.

    Args:
        spec: The model's spec.
        named: By name: per-step [time_steps, ...], others [rows, ...].
        rows: Rows of the request.
        time_steps: Time steps of all rows together.

    Raises:
        ServiceError: BAD_TENSOR, naming the input, what was expected and what came.
    """
    if not named.keys() <= spec.input_names:
        unknown = next(name for name in named if name not in spec.input_names)
        expected = ", ".join(repr(entry.name) for entry in spec.inputs)
        raise _bad(f"the model has no input {unknown!r}; expected: {expected}")
    return [_arrange(entry, named.get(entry.name), rows, time_steps) for entry in spec.inputs]


def _arrange(entry: TensorSpec, array: Array | None, rows: int, time_steps: int) -> Array:
    leading = time_steps if entry.per_step else rows
    dtype = DTYPES[entry.dtype]
    if array is None:
        return default_input(entry, leading)
    if array.dtype != dtype:
        raise _bad(f"input {entry.name!r}: expected {entry.dtype}; got {array.dtype.name}")
    expected = (leading, *entry.shape)
    if array.shape != expected:
        counted = "time steps" if entry.per_step else "rows"
        raise _bad(
            f"input {entry.name!r}: expected shape {list(expected)} ({leading} {counted} "
            f"of {list(entry.shape)}); got {list(array.shape)}"
        )
    return array


def default_input(entry: TensorSpec, count: int) -> Array:
    """Makes so many elements of an input's default. Raises ServiceError (BAD_TENSOR) where it has none."""
    if entry.default is None:
        raise _bad(f"input {entry.name!r} is missing")
    return np.full((count, *entry.shape), entry.default, DTYPES[entry.dtype])


def all_valid(spec: ModelSpec, inputs: list[Array]) -> bool:
    """Returns whether the model may see all values of rows of one step; `invalid_rows` is then empty."""
    return all(
        bool(valid.all())
        for entry, array in zip(spec.inputs, inputs, strict=True)
        if (valid := _valid(entry, array)) is not None
    )


def _valid(entry: TensorSpec, array: Array) -> NDArray[np.bool_] | None:
    """Returns which values the model may see; None: any value of that type."""
    if array.dtype.kind == "f":
        return np.isfinite(array)
    if entry.vocabulary_size is not None:
        return (array >= 0) & (array < entry.vocabulary_size)
    return None


def invalid_rows(
    spec: ModelSpec, inputs: Sequence[Array], steps: NDArray[np.uint32] | None
) -> dict[int, str]:
    """Finds rows whose values the model must not see, each with the error. Usually there are none.

    Args:
        spec: The model's spec.
        inputs: In the form that `arrange_inputs` returns.
        steps: Time steps of each row; None: 1 each.
    """
    invalid = _invalid_lengths(spec, inputs, steps)
    for entry, array in zip(spec.inputs, inputs, strict=True):
        good = _valid(entry, array)
        if good is None or good.all():
            continue
        finite = array.dtype.kind == "f"
        expected = "finite numbers" if finite else f"tokens from 0 to {(entry.vocabulary_size or 0) - 1}"
        wrong = ~good.reshape(len(good), -1)
        elements = rows = np.flatnonzero(wrong.any(axis=1))
        first_steps = np.zeros(len(rows), np.int64)
        if entry.per_step and steps is not None:
            ends = np.cumsum(steps, dtype=np.int64)
            rows, first = np.unique(np.searchsorted(ends, elements, side="right"), return_index=True)
            elements = elements[first]
            first_steps = elements - (ends[rows] - steps[rows])
        for row, element, step in zip(rows.tolist(), elements.tolist(), first_steps.tolist(), strict=True):
            index = int(wrong[element].argmax())
            value = array[element].reshape(-1)[index]
            got = "a missing value (nan)" if finite and np.isnan(value) else str(value)
            place = _place(entry, step if entry.per_step and steps is not None else None, index)
            invalid.setdefault(row, f"input {entry.name!r}: expected {expected}; got {got}{place}")
    return invalid


def explain_fault(columns: RaggedColumns, row: int, number: int) -> RowFailure:
    """Explains why the model failed on a row that ran alone.

    Values of required inputs have been checked. Where an optional input has another value than its default,
    that value is the likely cause: what such an input takes stands in the graph alone.

    Args:
        columns: The inputs that ran.
        row: The row among them.
        number: The row's number in the request.
    """
    own = columns.take(np.array([row], np.intp))
    for entry, array in zip(own.tensors, own.arrays, strict=True):
        if entry.default is None:
            continue
        other = array[array != entry.default]
        if len(other):
            return RowFailure(
                number,
                Reason.BAD_TENSOR,
                f"the model cannot run with {entry.name!r} = {other[0]} (default {entry.default:g})",
            )
    return model_fault(number)


def _invalid_lengths(
    spec: ModelSpec, inputs: Sequence[Array], steps: NDArray[np.uint32] | None
) -> dict[int, str]:
    """Finds rows with fewer or more time steps than the model takes."""
    least, most = spec.least_steps, spec.most_steps
    if steps is None:
        return {} if least == 1 else {row: _steps_expected(least, 1) for row in range(len(inputs[0]))}
    wrong = steps < least
    invalid = {row: _steps_expected(least, int(steps[row])) for row in np.flatnonzero(wrong).tolist()}
    if most is not None:
        invalid |= {
            row: f"expected {most} time step, as the model takes no sequences; got {steps[row]}"
            for row in np.flatnonzero(steps > most).tolist()
        }
    return invalid


def _place(entry: TensorSpec, step: int | None, index: int) -> str:
    """Names the place of an element in a row: " at step 17, column 2", as far as it has these."""
    words = [] if step is None else [f"step {step}"]
    if len(entry.shape) == 1:
        words.append(f"column {index}")
    elif entry.shape:
        words.append(f"element {[int(axis) for axis in np.unravel_index(index, entry.shape)]}")
    return f" at {', '.join(words)}" if words else ""


def _steps_expected(least: int, steps: int) -> str:
    return f"expected at least {least} time step{'s' * (least > 1)}; got {steps}"


def _bad(message: str) -> ServiceError:
    return ServiceError(Reason.BAD_TENSOR, message)
