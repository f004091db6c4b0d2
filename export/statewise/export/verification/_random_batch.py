"""A ragged batch drawn for verification, and the parts of it that are run again in other company.

Time-major as the graph is. A sample never changes; its parts are views or copies.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.models import Checkpoint, Normalisation
from statewise.wire import ModelSpec

Array = NDArray[Any]

_LENGTHS = (24, 1, 17, 2, 24, 9, 5, 13)
_LOUD = 50.0  # how much larger neighbours' inputs get, so that anything shared over a batch shows


@dataclass(frozen=True)
class Sample:
    """Rows to run.

    Attributes:
        x: [T, B, ...], or [B, ...] where the input is not per step.
        lengths: [B], 1 to T each.
        state: [B, S], or None.
        per_step_input: Which of the two x is.
        per_step_output: Whether the outputs are [T, B, O] or [B, O].
    """

    x: Array
    lengths: Array
    state: Array | None
    per_step_input: bool
    per_step_output: bool

    def row(self, index: int) -> "Sample":
        """One row alone, without padding."""
        return self._select([index])

    def rows(self, indices: list[int], *, loud_except: int) -> "Sample":
        """Some rows, padded as long as the longest of them; all but one with much larger inputs."""
        selected = self._select(indices)
        if selected.x.dtype.kind != "f":
            return selected
        loudness = np.where(np.array(indices) == loud_except, 1, _LOUD).astype(selected.x.dtype)
        x = np.moveaxis(selected.x, int(self.per_step_input), -1) * loudness
        return replace(selected, x=np.moveaxis(x, -1, int(self.per_step_input)))

    def valid(self, y: Array) -> Array:
        """The outputs that mean something: [sum(lengths), O], or [B, O] where there is one a row."""
        return y[np.arange(len(y))[:, None] < self.lengths] if self.per_step_output else y

    def _select(self, indices: list[int]) -> "Sample":
        lengths = self.lengths[indices]
        x = self.x[: max(lengths), indices] if self.per_step_input else self.x[indices]
        return replace(self, x=x, lengths=lengths, state=None if self.state is None else self.state[indices])


def draw_sample(spec: ModelSpec, checkpoint: Checkpoint | None, rng: np.random.Generator) -> Sample:
    """Inputs like those the network was trained on, and a state that is not zero.

    Args:
        spec: What the graph takes.
        checkpoint: Its normalisation scales the inputs; None: standard normal inputs.
        rng: Where everything is drawn from.
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
    return Sample(x.astype(tensor.dtype), lengths, state, tensor.per_step, spec.outputs[0].per_step)


def _raw_units(x: Array, normalisation: Normalisation) -> Array:
    """Standard normal numbers as the raw inputs that normalise to them."""
    if normalisation.input_mean is not None and normalisation.input_scale is not None:
        x = x * normalisation.input_scale + normalisation.input_mean
    return np.square(x) if normalisation.transform == "sqrt" else x
