"""Writes small untrained models that generate: in their graph, or fed back by the server."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec, Normalisation
from statewise.wire import METADATA_KEY

LETTERS = ["<end>", "a", "b", "c", "d", "e", "f", "<x>", "<y>"]
WORDS = {"separator": "", "case": "lower", "unknown": None, "begin": None, "end": 0, "pad": None}
SOUNDS = ["<end>", "AH", "L", "OW", "K", "S", "T", "<begin>", "<spare>"]
READ = ["<end>", "p", "q", "r", "s", "t"]
END = 0


def _network(seed: int, **fields: Any) -> Network:
    """Initialises a network and moves its weights, so that its outputs differ from step to step."""
    random = np.random.default_rng(seed)
    spec = NetworkSpec(**{"hidden_size": 11, **fields})
    fresh = Network.initialise(spec, rng=random)
    values = {
        name: (value + 0.6 * random.standard_normal(value.shape)).astype(np.float32)
        for name, value in fresh.parameters.items()
    }
    return Network(spec, values)


def _writer(*, ends: bool = True, **fields: Any) -> Checkpoint:
    shape = {"input_size": 9, "output_size": 7, "embedding_size": 4, "head": "softmax"}
    network = _network(3, **shape, call_shape="one_to_many", **fields)
    if not ends:
        values = {name: np.array(value) for name, value in network.parameters.items()}
        values["head.c"][END] = -50
        network = Network(network.spec, values)
    return Checkpoint(
        network=network,
        vocabulary={**WORDS, "tokens": LETTERS, "conditions": {"<x>": 7, "<y>": 8}},
    )


def _forecaster(**fields: Any) -> Checkpoint:
    mean, scale = np.array([1, -2, 0.5], np.float32), np.array([2, 0.5, 1], np.float32)
    return Checkpoint(
        network=_network(4, input_size=3, output_size=3, **fields),
        normalisation=Normalisation(input_mean=mean, input_scale=scale, output_mean=mean, output_scale=scale),
    )


def _transducer(*, seed: int = 5) -> Checkpoint:
    encoder = NetworkSpec(
        input_size=6, output_size=0, cell="gru", hidden_size=6, bidirectional=True, embedding_size=3
    )
    shape = {"input_size": 9, "output_size": 7, "embedding_size": 4, "head": "softmax", "cell": "gru"}
    source: dict[str, Any] = {**WORDS, "tokens": READ, "conditions": {}}
    target: dict[str, Any] = {
        **WORDS,
        "tokens": SOUNDS,
        "separator": " ",
        "case": "",
        "begin": 7,
        "conditions": {},
    }
    return Checkpoint(
        network=_network(seed, **shape, hidden_size=12, call_shape="encoder_decoder", encoder=encoder),
        vocabulary={"source": source, "target": target},
    )


@cache
def _checkpoints() -> dict[str, Checkpoint]:
    return {
        "letters": _writer(layers=2),
        "chatter": _writer(ends=False),
        "wave": _forecaster(),
        "speech": _transducer(),
        "drift": _forecaster(residual=True),
        "plain": Checkpoint(network=_network(6, input_size=5, output_size=3)),
    }


def checkpoint_of(model: str) -> Checkpoint:
    """The checkpoint that a model of the repository was exported from."""
    return _checkpoints()[model.removesuffix("_outside")]


def write_generative_models(root: Path) -> None:
    """Writes a repository of ten models.

    `letters`, `chatter` (which never ends), `wave` and `speech` generate in the graph; `…_outside` are the
    same without a graph that generates; `drift` is residual; `plain` does not generate.
    """
    for name, checkpoint in _checkpoints().items():
        export_checkpoint(checkpoint, root, name=name)
        if name in ("letters", "chatter", "wave", "speech"):
            _without_graph(export_checkpoint(checkpoint, root, name=f"{name}_outside"))


def write_two_transducers(root: Path) -> None:
    """Writes a repository of `speech` in two versions, with different weights."""
    for seed in (5, 105):
        export_checkpoint(_transducer(seed=seed), root, name="speech")


def _without_graph(package: Path) -> None:
    """Removes the graph that generates, so that the server feeds the outputs back."""
    (package / "generate.onnx").unlink()
    model = onnx.load(package / "model.onnx")
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            spec = json.loads(entry.value)
            spec["generate"]["graph"] = False
            entry.value = json.dumps(spec)
    onnx.save(model, package / "model.onnx")
