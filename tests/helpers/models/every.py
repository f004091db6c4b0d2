"""Writes models of every kind that keeps a state: small ones, networks, graphs of other tools."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tests.helpers.models.extreme import publish_extreme
from tests.helpers.models.foreign import MODELS
from tests.helpers.models.small import write_small_models

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec

NETWORKS: dict[str, dict[str, Any]] = {
    f"{cell}_{shape}_{layers}": {"cell": cell, "call_shape": shape, "layers": layers}
    for cell, shape, layers in product(("rnn", "lstm", "gru"), ("many_to_one", "many_to_many"), (1, 3))
} | {"residual": {"cell": "lstm", "residual": True, "output_size": 5}}
STATEFUL = ["steps", "last", *NETWORKS, *MODELS, "extreme"]
"""Names of the models."""


def publish(name: str, root: Path) -> None:
    """Writes one of the models; `steps` and `last` come with the other small ones."""
    if name in MODELS:
        MODELS[name]().publish(root / name / "1")
    elif name == "extreme":
        publish_extreme(root)
    elif name in NETWORKS:
        spec = NetworkSpec(**{"input_size": 5, "output_size": 4, "hidden_size": 9, **NETWORKS[name]})
        network = Network.initialise(spec, rng=np.random.default_rng(11))
        export_checkpoint(Checkpoint(network=network), root, name=name)
    elif not (root / name).exists():
        write_small_models(root)
