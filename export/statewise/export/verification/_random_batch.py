"""Draws a random ragged batch for verification, and selects rows of it to run beside other neighbours.

Arrays are time-major, as in the graphs; states have their rows first. A batch never changes; its parts are
views or copies.
"""

from dataclasses import dataclass, replace

import numpy as np

from statewise.export.base import Array
from statewise.models import Checkpoint, Normalisation
from statewise.wire import ModelSpec, StatePair, TensorSpec

_LENGTHS = (24, 1, 17, 2, 24, 9, 5, 13)
_LOUD = 50.0  # factor of the neighbours' inputs, which makes anything that rows share visible


@dataclass(frozen=True)
class RandomBatch:
    """Rows to run; B rows of up to T steps.

    Attributes:
        inputs: One array for each of the spec's inputs: [T, B, ...], or [B, ...] where the input is not per
        step. lengths: [B], 1 to T each.
        state: One array [B, ...] for each of the spec's states.
        spec: Describes inputs, outputs and states.
    """

    inputs: tuple[Array, ...]
    lengths: Array
    state: tuple[Array, ...]
    spec: ModelSpec

    @property
    def x(self) -> Array:
        """The first input."""
        return self.inputs[0]

    def row(self, index: int) -> "RandomBatch":
        """Returns one row alone, without padding."""
        return self.select([index])

    def rows(self, indices: list[int], *, loud_except: int) -> "RandomBatch":
        """Takes some rows, padded to the longest; inputs of rows other than `loud_except` are much larger."""
        selected = self.select(indices)
        loudness = np.where(np.array(indices) == loud_except, 1, _LOUD)
        louder = []
        for tensor, array in zip(self.spec.inputs, selected.inputs, strict=True):
            if array.dtype.kind == "f":
                rows_last = np.moveaxis(array, int(tensor.per_step), -1) * loudness.astype(array.dtype)
                array = np.moveaxis(rows_last, -1, int(tensor.per_step))
            louder.append(array)
        return replace(selected, inputs=tuple(louder))

    def steps(self, begin: int, end: int) -> "RandomBatch":
        """Returns a chunk of rows of one length; inputs that are not per step stay."""
        inputs = [
            array[begin:end] if tensor.per_step else array
            for tensor, array in zip(self.spec.inputs, self.inputs, strict=True)
        ]
        return replace(self, inputs=tuple(inputs), lengths=np.full_like(self.lengths, end - begin))

    def valid(self, index: int, y: Array) -> Array:
        """Returns an output without padding: [sum(lengths), ...], or [B, ...] unchanged."""
        per_step = self.spec.outputs[index].per_step
        return y[np.arange(len(y))[:, None] < self.lengths] if per_step else y

    def select(self, indices: list[int]) -> "RandomBatch":
        """Returns some rows, padded to the longest of them."""
        lengths = self.lengths[indices]
        inputs = [
            array[: max(lengths), indices] if tensor.per_step else array[indices]
            for tensor, array in zip(self.spec.inputs, self.inputs, strict=True)
        ]
        state = tuple(array[indices] for array in self.state)
        return replace(self, inputs=tuple(inputs), lengths=lengths, state=state)


def draw_batch(
    spec: ModelSpec,
    checkpoint: Checkpoint | None,
    rng: np.random.Generator,
    *,
    lengths: tuple[int, ...] = _LENGTHS,
) -> RandomBatch:
    """Draws inputs in the units of the training data, and states.

    Args:
        spec: Describes the inputs and the states.
        checkpoint: Its normalisation gives the units, and its states may be any numbers. None: standard
        normal
            inputs, and the initial states, because other graphs need not accept any state.
        rng: Source of all numbers.
        lengths: Steps of the rows; shorter ones than the graph can run are made longer.
    """
    steps = np.maximum(lengths, spec.least_steps)
    if not any(tensor.per_step for tensor in spec.inputs):
        steps[:] = 1
    elif spec.lengths is None:
        steps[:] = max(steps)
    inputs = []
    for tensor in spec.inputs:
        axes = (max(steps), len(steps)) if tensor.per_step else (len(steps),)
        x = draw_tensor(tensor, axes, rng)
        if checkpoint is not None and tensor.vocabulary_size is None:
            x = _raw_units(x, checkpoint.normalisation).astype(tensor.dtype)
        inputs.append(x)
    state = tuple(_draw_state(pair, len(steps), rng, known=checkpoint is not None) for pair in spec.state)
    return RandomBatch(tuple(inputs), steps, state, spec)


def draw_tensor(tensor: TensorSpec, axes: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draws standard normal numbers, tokens, or integers 0 and 1, of shape [*axes, *tensor.shape]."""
    shape = (*axes, *tensor.shape)
    if np.dtype(tensor.dtype).kind == "f":
        return rng.standard_normal(shape).astype(tensor.dtype)
    return rng.integers(0, tensor.vocabulary_size or 2, shape).astype(tensor.dtype)


def _draw_state(pair: StatePair, rows: int, rng: np.random.Generator, *, known: bool) -> Array:
    if known:
        return rng.uniform(-1, 1, (rows, *pair.shape)).astype(pair.dtype)
    return np.repeat(pair.initial_state()[None], rows, axis=0)


def _raw_units(x: Array, normalisation: Normalisation) -> Array:
    """Raw inputs of normalised inputs x; a transform by square root loses the sign of x * scale + mean."""
    if normalisation.input_mean is not None and normalisation.input_scale is not None:
        x = x * normalisation.input_scale + normalisation.input_mean
    return np.square(x) if normalisation.transform == "sqrt" else x
