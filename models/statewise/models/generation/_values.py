"""Continues a series: emits a forecast and reads it as the next input."""

from __future__ import annotations

import numpy as np

from statewise.models.base import Floats
from statewise.models.checkpoints import Checkpoint


def generate_values(
    checkpoint: Checkpoint, state: Floats, last: Floats, steps: int
) -> tuple[Floats, Floats, Floats]:
    """Emits the last output, reads it as the next input, and repeats.

    Args:
        checkpoint: Checkpoint of a one-way network with as many outputs as inputs.
        state: [B, S], after the series so far.
        last: [B, O], the output at the last step of the series, raw units.
        steps: N.

    Returns:
        The values emitted [N, B, O] in raw units, the state after them, and the output after them.

    Raises:
        ValueError: The network cannot read its own outputs.
    """
    spec = checkpoint.network.spec
    if spec.embedding_size or spec.final or spec.input_size != spec.output_size or not spec.streamable:
        raise ValueError("checkpoint: expected a one-way network whose outputs are its next inputs")
    values = []
    for _ in range(steps):
        values.append(last)
        y, after = checkpoint.predict(last[None], None, state)
        assert after is not None
        last, state = y[0], after
    emitted: Floats = np.array(values, last.dtype).reshape(steps, *last.shape)
    return emitted, state, last
