"""Makes checkpoints of small random networks; nothing is trained here."""

from dataclasses import replace
from typing import Any

import numpy as np

from statewise.models import Checkpoint, Network, NetworkSpec, Normalisation
from statewise.models.base import Array
from statewise.models.networks import CellName

TEXT_GENERATOR: dict[str, Any] = {
    "input_size": 9,
    "output_size": 7,
    "embedding_size": 4,
    "head": "softmax",
    "call_shape": "one_to_many",
}
"""Fields of NetworkSpec: a network that generates tokens."""

VOCABULARY: dict[str, Any] = {
    "tokens": ["<end>", "a", "b", "c", "d", "e", "f", "<x>", "<y>"],
    "separator": "",
    "case": "lower",
    "unknown": None,
    "begin": None,
    "end": 0,
    "pad": None,
    "conditions": {"<x>": 7, "<y>": 8},
}


def make_checkpoint(
    *,
    seed: int = 0,
    transform: str = "identity",
    labels: tuple[str, ...] | None = None,
    same_units: bool = False,
    **fields: Any,
) -> Checkpoint:
    """An untrained network.

    Args:
        seed: Of the parameters.
        transform: Of the normalisation.
        labels: Names of classes.
        same_units: Outputs are normalised as inputs are, so a network of as many can forecast.
        fields: Of NetworkSpec.
    """
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
    units = Normalisation(**moments)
    if same_units:
        units = replace(units, output_mean=units.input_mean, output_scale=units.input_scale)
    return Checkpoint(
        network=Network(spec, values),
        normalisation=units,
        labels=labels,
        recipe="tiny",
        seed=seed,
        metrics={"accuracy": 0.975},
    )


def make_encoder_decoder(
    *,
    cell: CellName = "lstm",
    bidirectional: bool = False,
    layers: int = 1,
    learned: bool = False,
    **fields: Any,
) -> Checkpoint:
    """An encoder-decoder of tokens; a bidirectional encoder has half the units.

    Args:
        cell: Of both networks.
        bidirectional: Whether the encoder is.
        layers: Of both networks.
        learned: Whether the encoder learns its initial state.
        fields: Of the decoder's NetworkSpec.
    """
    encoder = NetworkSpec(
        input_size=6,
        output_size=0,
        cell=cell,
        hidden_size=6 if bidirectional else 12,
        layers=layers,
        bidirectional=bidirectional,
        embedding_size=3,
        learn_initial_state=learned,
    )
    shape = {"hidden_size": 12, "layers": layers, "call_shape": "encoder_decoder", "encoder": encoder}
    vocabulary = {
        "source": VOCABULARY,
        "target": {**VOCABULARY, "separator": " ", "begin": 7, "conditions": {}},
    }
    checkpoint = make_checkpoint(**{**TEXT_GENERATOR, "cell": cell, **shape, **fields})
    return replace(checkpoint, vocabulary=vocabulary)


def _moments(side: str, size: int, rng: np.random.Generator) -> dict[str, Array]:
    return {
        f"{side}_mean": rng.standard_normal(size).astype(np.float32),
        f"{side}_scale": rng.uniform(0.5, 2, size).astype(np.float32),
    }
