"""Makes untrained LSTM models of given sizes: their outputs are noise, their cost is real."""

from pathlib import Path

import numpy as np

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec


def lstm_repository(
    root: Path, *sizes: int, call_shape: str = "many_to_many", features: int | None = None
) -> Path:
    """Makes a repository of models `lstm<H>` with I = O = `features`; by default I = O = H."""
    for size in sizes:
        spec = NetworkSpec(
            input_size=features or size,
            output_size=features or size,
            cell="lstm",
            hidden_size=size,
            call_shape=call_shape,
        )
        network = Network.initialise(spec, rng=np.random.default_rng(size))
        export_checkpoint(Checkpoint(network=network, recipe="bench", seed=size), root, name=f"lstm{size}")
    return root
