"""Reads the values that callers pass into rows that can be sent.

The number of axes, compared with the model's shape of one sample, distinguishes samples, sequences and
batches; `_elements` converts elements. The server looks for NaN, infinity and unknown tokens. Every array
of a row is C-ordered, little-endian and of the model's type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.values._elements import UnfitError, as_elements, axes_of, place_of
from statewise.client.values._errors import InvalidInput
from statewise.client.values._info import ModelInfo, TensorInfo
from statewise.wire import DTYPES

Array = NDArray[Any]

InputBytes = tuple[bytes, ...]
"""One row's inputs in the order of the model's, each as its bytes."""


class Form(Enum):
    """How the caller arranged the rows; outputs are arranged in the same way."""

    ONE = "one"
    """A single row, without an axis for rows."""
    ARRAY = "array"
    """Rows of equal length in one array, its first axis the rows."""
    LIST = "list"
    """Rows of any length in a list."""


class Use(Enum):
    """The call that the rows are for; it decides which numbers of axes are allowed."""

    SESSION = "session"
    """One row: one time step or several."""
    PREDICT = "predict"
    """Whole sequences, one or a batch."""
    GROUP = "group"
    """A known number of rows: one time step each or several."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of input, ready to be split into requests."""

    form: Form
    steps: NDArray[np.uint32]
    """Time steps of each row, [rows]."""
    stepwise: bool
    """The rows are single time steps without a time axis, so outputs have no time axis either."""
    columns: tuple[Array, ...]
    """In the order of the model's inputs: per-step inputs [sum(steps), ...], others [rows, ...]."""


@dataclass(frozen=True, slots=True)
class _Column:
    form: Form
    flat: Array
    lengths: NDArray[np.uint32] | None
    """None for inputs without a time axis."""
    stepwise: bool
    count: int


class InputReader:
    """Reads inputs for one model version."""

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self._specs = model.inputs
        fast = len(model.inputs) == 1 and model.inputs[0].per_step and model.least_steps <= 1
        only = model.inputs[0] if fast else None
        self._only_dtype = np.dtype(only.dtype) if only else None
        self._only_shape = only.shape if only else None

    def payload_of_step(self, value: object) -> tuple[bytes, ...] | None:
        """Returns the bytes of one time step that needs no conversion, else None: a session's fast path."""
        if (
            type(value) is np.ndarray
            and value.shape == self._only_shape
            and value.dtype == self._only_dtype
            and value.dtype.isnative
        ):
            return (value.tobytes(),)
        return None

    def column_of_sequence(self, value: object) -> Array | None:
        """Returns a sequence [T, ...] that needs no conversion, else None: the fast path of bulk work."""
        if (
            type(value) is np.ndarray
            and value.ndim
            and len(value)
            and value.shape[1:] == self._only_shape
            and value.dtype == self._only_dtype
            and value.dtype.isnative
            and value.flags.c_contiguous
        ):
            return value
        return None

    def rows_of_steps(self, value: object, count: int) -> Rows | None:
        """Returns `value` as rows if it needs no conversion and is one time step of each of `count` sessions,
        else None: the fast path of groups.
        """
        if (
            type(value) is np.ndarray
            and self._only_shape is not None
            and value.shape == (count, *self._only_shape)
            and value.dtype == self._only_dtype
            and value.dtype.isnative
            and value.flags.c_contiguous
        ):
            return Rows(Form.ARRAY, np.ones(count, np.uint32), True, (value,))
        return None

    def read(self, value: object, use: Use, *, count: int = 1) -> Rows:
        """Reads rows.

        Args:
            value: the input of a model with one input, else a dict by name; those with a default
                are optional.
            use: which numbers of axes are allowed.
            count: with GROUP, the number of rows expected.

        Raises:
            InvalidInput: it names the input, the expected and the received value.
        """
        by_name = self._by_name(value)
        columns = [
            self._column(spec, by_name[spec.name], use, count) for spec in self._specs if spec.name in by_name
        ]
        if not columns:
            raise InvalidInput(f"model {self._model.name!r} has no input to give; use generate()")
        first = columns[0]
        for spec, column in zip((s for s in self._specs if s.name in by_name), columns, strict=True):
            if column.count != first.count:
                raise InvalidInput(
                    f"input {spec.name!r}: expected {first.count} rows as in the first input; "
                    f"got {column.count}"
                )
        lead = next((column for column in columns if column.lengths is not None), first)
        steps = np.ones(lead.count, np.uint32) if lead.lengths is None else lead.lengths
        if any(column.lengths is not None and (column.lengths != steps).any() for column in columns):
            raise InvalidInput("expected the same number of time steps in every input of a row")
        self._check_steps(steps)
        columns_by_name = dict(zip((s.name for s in self._specs if s.name in by_name), columns, strict=True))
        flats = tuple(
            columns_by_name[spec.name].flat
            if spec.name in columns_by_name
            else _filled(spec, int(steps.sum()) if spec.per_step else len(steps))
            for spec in self._specs
        )
        return Rows(lead.form, steps, lead.stepwise or lead.lengths is None, flats)

    def _check_steps(self, steps: NDArray[np.uint32]) -> None:
        least = self._model.least_steps
        short = np.flatnonzero(steps < least)
        if len(short):
            where = f" at index {short[0]}" if len(steps) > 1 else ""
            raise InvalidInput(
                f"model {self._model.name!r} takes rows of at least {least} time steps (its least_steps); "
                f"got {steps[short[0]]}{where}"
            )

    def _by_name(self, value: object) -> Mapping[str, object]:
        names = [spec.name for spec in self._specs]
        if not isinstance(value, Mapping):
            required = [spec for spec in self._specs if spec.default is None]
            candidates = required if len(required) == 1 else list(self._specs)
            if len(candidates) != 1:
                raise InvalidInput(
                    f"model {self._model.name!r} takes several inputs: expected a dict of {names}; "
                    f"got {type(value).__name__}"
                )
            return {candidates[0].name: value}
        unknown = [name for name in value if name not in names]
        missing = [spec.name for spec in self._specs if spec.default is None and spec.name not in value]
        if unknown or missing:
            raise InvalidInput(
                f"model {self._model.name!r}: expected inputs {names}; got {list(value)}"
                + (f", {missing} missing" if missing else "")
            )
        return value

    def _column(self, spec: TensorInfo, value: object, use: Use, count: int) -> _Column:
        rank = len(spec.shape)
        # Numbers of axes that one row may have; without a time axis there is only one.
        row_ranks = (rank,) if not spec.per_step else (rank + 1,) if use is Use.PREDICT else (rank, rank + 1)
        if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1:
            value = list(value)
        if isinstance(value, list | tuple) and use is not Use.SESSION:
            if not value:
                raise InvalidInput(f"input {spec.name!r}: expected at least one row; got an empty list")
            if axes_of(value[0]) in row_ranks:
                rows = [self._array(spec, row, use, count, number) for number, row in enumerate(value)]
                return self._list(spec, rows, use, count)
        array = self._array(spec, value, use, count)
        if use is not Use.GROUP and array.ndim in row_ranks:
            return self._one(spec, array, use, count)
        if use is not Use.SESSION and array.ndim - 1 in row_ranks:
            return self._batch(spec, array, use, count)
        raise self._misfit(spec, use, count, _described(array))

    def _one(self, spec: TensorInfo, array: Array, use: Use, count: int) -> _Column:
        rank = len(spec.shape)
        if array.shape[array.ndim - rank :] != spec.shape:
            raise self._misfit(spec, use, count, _described(array))
        stepwise = array.ndim == rank
        if not stepwise and array.shape[0] == 0:
            raise self._no_steps(spec, array)
        lengths = np.full(1, 1 if stepwise else array.shape[0], np.uint32) if spec.per_step else None
        return _Column(Form.ONE, array.reshape(-1, *spec.shape), lengths, stepwise, 1)

    def _batch(self, spec: TensorInfo, array: Array, use: Use, count: int) -> _Column:
        rank, rows = len(spec.shape), array.shape[0]
        stepwise = array.ndim == rank + 1
        if array.shape[array.ndim - rank :] != spec.shape or (use is Use.GROUP and rows != count):
            raise self._misfit(spec, use, count, _described(array))
        if rows == 0:
            raise InvalidInput(
                f"input {spec.name!r}: expected at least one row; got shape {list(array.shape)}"
            )
        if not stepwise and array.shape[1] == 0:
            raise self._no_steps(spec, array)
        lengths = np.full(rows, 1 if stepwise else array.shape[1], np.uint32) if spec.per_step else None
        return _Column(Form.ARRAY, array.reshape(-1, *spec.shape), lengths, stepwise, rows)

    def _list(self, spec: TensorInfo, rows: Sequence[Array], use: Use, count: int) -> _Column:
        rank = len(spec.shape)
        ndim = rows[0].ndim
        if use is Use.GROUP and len(rows) != count:
            raise self._misfit(spec, use, count, f"a list of {len(rows)}")
        for index, row in enumerate(rows):
            if row.ndim != ndim or row.shape[ndim - rank :] != spec.shape:
                raise self._misfit(spec, use, count, f"{_described(row)} at index {index}")
            if ndim > rank and row.shape[0] == 0:
                raise self._no_steps(spec, row, index)
        if ndim == rank:
            lengths = np.ones(len(rows), np.uint32) if spec.per_step else None
            form = Form.ARRAY if use is Use.GROUP else Form.LIST
            return _Column(form, np.stack(rows), lengths, True, len(rows))
        lengths = np.array([len(row) for row in rows], np.uint32)
        return _Column(Form.LIST, np.concatenate(rows), lengths, False, len(rows))

    def _array(self, spec: TensorInfo, value: object, use: Use, count: int, row: int | None = None) -> Array:
        """Converts a value, or one row of a list."""
        try:
            return as_elements(value, DTYPES[spec.dtype])
        except UnfitError as unfit:
            several = use is Use.GROUP or (
                use is Use.PREDICT and unfit.ndim - len(spec.shape) > spec.per_step
            )
            got = unfit.got + place_of(unfit, spec, row, several=several)
            if unfit.expected is None:
                raise self._misfit(spec, use, count, got) from None
            raise InvalidInput(f"input {spec.name!r}: expected {unfit.expected}; got {got}") from None

    def _misfit(self, spec: TensorInfo, use: Use, count: int, got: str) -> InvalidInput:
        sample = [str(size) for size in spec.shape]
        one = f"[{', '.join(sample)}]"
        row = f"[{', '.join(['T', *sample])}]" if spec.per_step else one
        match use:
            case Use.SESSION:
                offered = f"{one} (one time step) or {row} (T steps)" if spec.per_step else one
            case Use.PREDICT:
                kind = "sequence" if spec.per_step else "sample"
                offered = f"{row} (one {kind}), [B, {row[1:]} or a list of {row} (a batch)"
            case Use.GROUP:
                offered = f"[{', '.join([str(count), *sample])}]"
                if spec.per_step:
                    offered += f", [{', '.join([str(count), 'T', *sample])}] or a list of {count} {row}"
        return InvalidInput(
            f"input {spec.name!r} of model {self._model.name!r}: expected {spec.dtype} {offered}; got {got}"
        )

    def _no_steps(self, spec: TensorInfo, array: Array, index: int | None = None) -> InvalidInput:
        where = "" if index is None else f" at index {index}"
        return InvalidInput(
            f"input {spec.name!r}: expected at least one time step; got shape {list(array.shape)}{where}"
        )


def _described(array: Array) -> str:
    return f"{array.dtype.name} of shape {list(array.shape)}"


def _filled(spec: TensorInfo, rows: int) -> Array:
    return np.full((rows, *spec.shape), spec.default, DTYPES[spec.dtype])
