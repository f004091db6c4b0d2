"""Arranges outputs for callers: an array if the model has one output, else a dict by name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.values._info import ModelInfo, TensorInfo
from statewise.client.values._inputs import Array, Form
from statewise.v1 import tensor_pb2
from statewise.wire import from_tensor

Value = Any
"""An array, or a dict of arrays by output name."""


def of_step(model: ModelInfo, outputs: Sequence[Array]) -> Value:
    """Arranges the outputs of one time step: per-step outputs lose their time axis."""
    if len(outputs) == 1:
        return outputs[0][0] if model.outputs[0].per_step else outputs[0]
    return {
        spec.name: array[0] if spec.per_step else array
        for spec, array in zip(model.outputs, outputs, strict=True)
    }


def of_sequence(model: ModelInfo, parts: Sequence[Sequence[Array]]) -> Value:
    """Joins the outputs of a sequence sent in parts; of other than per-step outputs takes the last part's."""
    return _plain(
        model,
        [
            (arrays[0] if len(arrays) == 1 else np.concatenate(arrays)) if spec.per_step else arrays[-1]
            for spec, arrays in zip(model.outputs, zip(*parts, strict=True), strict=True)
        ],
    )


def of_batch(
    model: ModelInfo, outputs: Sequence[Array], steps: NDArray[np.uint32], *, form: Form, stepwise: bool
) -> Value:
    """Arranges the outputs of a batch in the form of its inputs.

    Args:
        model: the version that ran.
        outputs: per-step outputs [sum(steps), ...], others [rows, ...].
        steps: time steps of each row.
        form: how the inputs were arranged.
        stepwise: the inputs had no time axis.
    """
    shaped: list[Any] = []
    for spec, array in zip(model.outputs, outputs, strict=True):
        timed = spec.per_step and not stepwise
        if form is Form.LIST:
            shaped.append(np.split(array, np.cumsum(steps)[:-1]) if timed else list(array))
        elif not timed:
            shaped.append(array)
        else:
            shaped.append(array.reshape(len(steps), -1, *array.shape[1:]))
    if form is Form.ONE:
        shaped = [value[0] for value in shaped]
    if form is Form.LIST and len(shaped) > 1:
        return [_plain(model, row) for row in zip(*shaped, strict=True)]
    return _plain(model, shaped)


def rows_of(
    model: ModelInfo,
    outputs: Sequence[Array],
    steps: NDArray[np.uint32],
    *,
    stepwise: bool,
    without: Iterable[int] = (),
) -> list[Value | None]:
    """Splits the outputs of a batch into rows; those in `without` are None. Arguments as in `of_batch`."""
    missing = set(without)
    ends = np.cumsum(steps)
    rows: list[Value | None] = []
    for row, end in enumerate(ends.tolist()):
        if row in missing:
            rows.append(None)
            continue
        begin = end - int(steps[row])
        cut = [
            (array[begin] if stepwise else array[begin:end]) if spec.per_step else array[row]
            for spec, array in zip(model.outputs, outputs, strict=True)
        ]
        rows.append(_plain(model, cut))
    return rows


def read_outputs(
    model: ModelInfo, tensors: Mapping[str, tensor_pb2.Tensor], *, rows: int, steps: int
) -> list[Array]:
    """Reads all outputs of a response, writable, in the model's order.

    Raises:
        ValueError: an output is missing or of another length than the rows that succeeded.
    """
    arrays = []
    for spec in model.outputs:
        expected = steps if spec.per_step else rows
        if not expected:
            arrays.append(np.empty((0, *spec.shape), spec.dtype))
            continue
        if spec.name not in tensors:
            raise ValueError(f"expected output {spec.name!r}; got {sorted(tensors)}")
        # One copy a message: callers may change their arrays.
        array = from_tensor(tensors[spec.name]).copy()
        if not array.ndim or len(array) != expected:
            raise ValueError(f"expected {expected} rows of output {spec.name!r}; got {list(array.shape)}")
        arrays.append(array)
    return arrays


def read_values(spec: TensorInfo, tensors: Mapping[str, tensor_pb2.Tensor], count: int) -> Array:
    """Reads emitted values [count, ...], writable.

    Raises:
        ValueError: they are missing, or their number differs.
    """
    if spec.name not in tensors:
        raise ValueError(f"expected values {spec.name!r}; got {sorted(tensors)}")
    array = from_tensor(tensors[spec.name]).copy()
    if not array.ndim or len(array) != count:
        raise ValueError(f"expected {count} values {spec.name!r}; got {list(array.shape)}")
    return array


def _plain(model: ModelInfo, values: Sequence[Any]) -> Value:
    if len(values) == 1:
        return values[0]
    return {spec.name: value for spec, value in zip(model.outputs, values, strict=True)}
