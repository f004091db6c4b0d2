"""Draws a random ragged batch for verification, and selects rows of it to run beside other neighbours.

Arrays are time-major, as in the graphs. A batch never changes; its parts are views or copies.
"""

from dataclasses import dataclass, replace

import numpy as np

from statewise.export.base import Array
from statewise.models import Checkpoint, Normalisation
from statewise.wire import ModelSpec

_LENGTHS = (24, 1, 17, 2, 24, 9, 5, 13)
_LOUD = 50.0  # factor of the neighbours' inputs, which makes anything that rows share visible


@dataclass(frozen=True)
class RandomBatch:
    """Rows to run; B rows of up to T steps.

    Attributes:
        x: [T, B, ...], or [B, ...] where the input is not per step.
        lengths: [B], 1 to T each.
        state: [B, S], or None.
        per_step_input: Whether x is [T, B, ...].
        per_step_output: Whether the outputs are [T, B, O] rather than [B, O].
    """

    x: Array
    lengths: Array
    state: Array | None
    per_step_input: bool
    per_step_output: bool

    def row(self, index: int) -> "RandomBatch":
        """One row alone, without padding."""
        return self._select([index])

    def rows(self, indices: list[int], *, loud_except: int) -> "RandomBatch":
        """Some rows, padded to the longest of them; inputs of all rows but `loud_except` are much larger."""
        selected = self._select(indices)
        if selected.x.dtype.kind != "f":
            return selected
        loudness = np.where(np.array(indices) == loud_except, 1, _LOUD).astype(selected.x.dtype)
        x = np.moveaxis(selected.x, int(self.per_step_input), -1) * loudness
        return replace(selected, x=np.moveaxis(x, -1, int(self.per_step_input)))

    def valid(self, y: Array) -> Array:
        """The outputs without padding: [sum(lengths), O], or [B, O] unchanged."""
        return y[np.arange(len(y))[:, None] < self.lengths] if self.per_step_output else y

    def _select(self, indices: list[int]) -> "RandomBatch":
        lengths = self.lengths[indices]
        x = self.x[: max(lengths), indices] if self.per_step_input else self.x[indices]
        return replace(self, x=x, lengths=lengths, state=None if self.state is None else self.state[indices])


def draw_batch(spec: ModelSpec, checkpoint: Checkpoint | None, rng: np.random.Generator) -> RandomBatch:
    """Draws inputs in the units of the training data, and states that are not zero.

    Args:
        spec: Describes the inputs and the state.
        checkpoint: Its normalisation gives the units; None: standard normal inputs.
        rng: Source of all numbers.
    """
    tensor = spec.inputs[0]
    lengths = np.array(_LENGTHS)
    if not tensor.per_step:
        lengths[:] = 1
    elif spec.lengths is None:
        lengths[:] = max(_LENGTHS)
    axes = (max(lengths), len(lengths)) if tensor.per_step else (len(lengths),)
    if tensor.vocabulary_size is not None:
        x: Array = rng.integers(0, tensor.vocabulary_size, (*axes, *tensor.shape))
    else:
        x = rng.standard_normal((*axes, *tensor.shape))
        if checkpoint is not None:
            x = _raw_units(x, checkpoint.normalisation)
    state = None
    if spec.state:
        pair = spec.state[0]
        state = rng.uniform(-1, 1, (len(lengths), *pair.shape)).astype(pair.dtype)
    return RandomBatch(x.astype(tensor.dtype), lengths, state, tensor.per_step, spec.outputs[0].per_step)


def _raw_units(x: Array, normalisation: Normalisation) -> Array:
    """Raw inputs of normalised inputs x; a transform by square root loses the sign of x * scale + mean."""
    if normalisation.input_mean is not None and normalisation.input_scale is not None:
        x = x * normalisation.input_scale + normalisation.input_mean
    return np.square(x) if normalisation.transform == "sqrt" else x
