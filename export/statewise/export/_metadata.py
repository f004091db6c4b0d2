"""What an exported file says of itself, under two keys of its metadata.

`statewise` is the contract with the server (statewise.wire.ModelSpec). `statewise.network` is the spec of the
NumPy network, with which `verify` rebuilds it from the graph's own weights; servers ignore it.
"""

import json

from statewise.export._read_graph import INPUT, LENGTHS, OUTPUT, STATE, STATE_OUT
from statewise.models import Checkpoint, NetworkSpec
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, StatePart, TensorSpec

NETWORK_KEY = "statewise.network"

__all__ = ["METADATA_KEY", "NETWORK_KEY", "model_spec", "network_json", "network_spec"]


def model_spec(checkpoint: Checkpoint) -> ModelSpec:
    """What the read graph of a checkpoint takes, gives and keeps."""
    network = checkpoint.network.spec
    single = network.call_shape == "one_to_one"
    return ModelSpec(
        inputs=(
            TensorSpec(
                name=INPUT,
                dtype="int32" if network.embedding_size else "float32",
                shape=() if network.embedding_size else (network.input_size,),
                per_step=not single,
                vocabulary_size=network.input_size if network.embedding_size else None,
            ),
        ),
        outputs=(TensorSpec(OUTPUT, "float32", (network.output_size,), per_step=not network.final),),
        state=_state(network),
        call_shapes=(CallShape(network.call_shape),),
        lengths=None if single else LENGTHS,
        labels=tuple(checkpoint.labels or ()),
        notes={
            "recipe": checkpoint.recipe,
            "seed": str(checkpoint.seed),
            **{key: f"{value:.6g}" for key, value in checkpoint.metrics.items()},
        },
    )


def network_json(spec: NetworkSpec) -> str:
    """The value under NETWORK_KEY."""
    return json.dumps(spec.to_dict())


def network_spec(text: str) -> NetworkSpec:
    """Reads the value under NETWORK_KEY. Raises ValueError or TypeError where it is none."""
    return NetworkSpec.from_dict(json.loads(text))


def _state(network: NetworkSpec) -> tuple[StatePair, ...]:
    if not network.streamable:
        return ()
    parts = tuple(StatePart(name, offset, size) for name, offset, size in network.state_parts())
    return (StatePair(STATE, STATE_OUT, "float32", (network.state_size,), parts=parts),)
