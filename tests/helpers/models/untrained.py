"""Writes untrained models that have the names and the shapes of the recipes."""

from pathlib import Path
from typing import Any

import numpy as np

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec


def write_untrained_models(root: Path) -> None:
    """Writes a repository of five models named after recipes."""
    classifier = {"output_size": 9, "head": "softmax", "call_shape": "many_to_one"}
    for name, checkpoint in {
        "vowels": Checkpoint(
            network=_network(input_size=12, **classifier), labels=tuple(f"speaker {n}" for n in range(1, 10))
        ),
        "tumour": Checkpoint(
            network=_network(input_size=30, output_size=1, head="sigmoid", call_shape="one_to_one")
        ),
        "gait": Checkpoint(network=_network(input_size=9, output_size=9)),
        "names": _names(),
        "g2p": _g2p(),
    }.items():
        export_checkpoint(checkpoint, root, name=name)


def _network(**fields: Any) -> Network:
    spec = NetworkSpec(**{"cell": "lstm", "hidden_size": 8, **fields})
    return Network.initialise(spec, rng=np.random.default_rng(1))


def _words(tokens: list[str], **roles: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "separator": "",
        "case": "",
        "unknown": None,
        "begin": None,
        "pad": None,
        "conditions": {},
    }
    return {**nothing, "tokens": tokens, "end": 0, **roles}


def _names() -> Checkpoint:
    letters = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    spec = NetworkSpec(
        input_size=29,
        output_size=27,
        cell="gru",
        hidden_size=8,
        head="softmax",
        call_shape="one_to_many",
        embedding_size=4,
    )
    vocabulary = _words(
        ["<end>", *letters, "<female>", "<male>"], case="upper", conditions={"<female>": 27, "<male>": 28}
    )
    return Checkpoint(network=Network.initialise(spec, rng=np.random.default_rng(1)), vocabulary=vocabulary)


def _g2p() -> Checkpoint:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    sounds = ["HH", "AH", "L", "OW", "M", "EH", "R", "IY"]
    encoder = NetworkSpec(input_size=27, output_size=0, cell="gru", hidden_size=8, embedding_size=4)
    spec = NetworkSpec(
        input_size=10,
        output_size=9,
        cell="gru",
        hidden_size=8,
        head="softmax",
        call_shape="encoder_decoder",
        embedding_size=4,
        encoder=encoder,
    )
    vocabulary = {
        "source": _words(["<end>", *letters], case="lower"),
        "target": _words(["<end>", *sounds, "<begin>"], separator=" ", begin=9),
    }
    return Checkpoint(network=Network.initialise(spec, rng=np.random.default_rng(2)), vocabulary=vocabulary)
