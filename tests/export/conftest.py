"""Small random networks as checkpoints: nothing is trained here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statewise.models import Checkpoint, Network, NetworkSpec, Normalisation

MakeCheckpoint = Callable[..., Checkpoint]


@pytest.fixture
def make_checkpoint() -> MakeCheckpoint:
    """make_checkpoint(seed=0, transform="identity", labels=None, **fields of NetworkSpec)."""

    def make(
        *, seed: int = 0, transform: str = "identity", labels: tuple[str, ...] | None = None, **fields: Any
    ) -> Checkpoint:
        rng = np.random.default_rng(seed)
        spec = NetworkSpec(**{"input_size": 5, "output_size": 3, "hidden_size": 11, **fields})
        fresh = Network.initialise(spec, rng=rng)
        # Biases are not left at their round first values, or wrong bias packing would not show.
        values = {
            name: value + 0.3 * rng.standard_normal(value.shape).astype(np.float32)
            for name, value in fresh.parameters.items()
        }
        moments: dict[str, Any] = {"transform": transform}
        if not spec.embedding_size:
            moments |= _moments("input", spec.input_size, rng)
        if spec.head == "linear" and spec.output_size:
            moments |= _moments("output", spec.output_size, rng)
        return Checkpoint(
            network=Network(spec, values),
            normalisation=Normalisation(**moments),
            labels=labels,
            recipe="tiny",
            seed=seed,
            metrics={"accuracy": 0.975},
        )

    return make


def _moments(side: str, size: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        f"{side}_mean": rng.standard_normal(size).astype(np.float32),
        f"{side}_scale": rng.uniform(0.5, 2, size).astype(np.float32),
    }
