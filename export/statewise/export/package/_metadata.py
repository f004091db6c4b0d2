"""Derives a package's metadata from a checkpoint; model.onnx carries it under two keys, for all graphs.

`statewise` holds the contract with the server (statewise.wire.ModelSpec). `statewise.network` holds the spec
of the NumPy network, from which verification rebuilds the network; servers ignore it.
"""

import json
from collections.abc import Mapping
from typing import Any

from statewise.export.graphs import (
    EMITTED,
    INPUT,
    LENGTHS,
    OUTPUT,
    STATE,
    STATE_OUT,
    generates_tokens,
    generates_values,
    output_width,
)
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.wire import (
    CallShape,
    EncodeSpec,
    GenerateSpec,
    ModelSpec,
    StatePair,
    StatePart,
    TensorSpec,
    Vocabulary,
)

NETWORK_KEY = "statewise.network"

_STEP_LIMIT = 64  # cuts off a decoder that never emits its end token; several times the longest pronunciation


def model_spec(checkpoint: Checkpoint, origin: Mapping[str, str]) -> ModelSpec:
    """Describes inputs, outputs and states of a checkpoint's graphs.

    Args:
        checkpoint: The network to describe.
        origin: Notes of where the model comes from.
    """
    network = checkpoint.network.spec
    words = checkpoint.vocabulary
    encode = None
    if network.encoder is not None:
        source = None if words is None else words["source"]
        encode = EncodeSpec((_input(network.encoder),), (STATE_OUT,), LENGTHS, _vocabulary(source))
        words = None if words is None else words["target"]
    return ModelSpec(
        inputs=(_input(network),),
        outputs=(TensorSpec(OUTPUT, "float32", (output_width(network),), per_step=not network.final),),
        state=_state(checkpoint.network),
        call_shapes=(CallShape(network.call_shape),),
        lengths=None if network.call_shape == "one_to_one" else LENGTHS,
        labels=tuple(checkpoint.labels or ()),
        vocabulary=_vocabulary(words),
        encode=encode,
        generate=_generate(checkpoint),
        notes=dict(origin),
    )


def _input(network: NetworkSpec) -> TensorSpec:
    tokens = network.embedding_size > 0
    return TensorSpec(
        name=INPUT,
        dtype="int32" if tokens else "float32",
        shape=() if tokens else (network.input_size,),
        per_step=network.call_shape != "one_to_one",
        vocabulary_size=network.input_size if tokens else None,
    )


def _vocabulary(words: Mapping[str, Any] | None) -> Vocabulary | None:
    """Returns a checkpoint's vocabulary as metadata."""
    if words is None:
        return None
    return Vocabulary(
        tokens=tuple(words["tokens"]),
        separator=words["separator"],
        case_folding=words["case"],
        **{role: words[role] for role in ("unknown", "begin", "end", "pad", "conditions")},
    )


def _generate(checkpoint: Checkpoint) -> GenerateSpec | None:
    network = checkpoint.network.spec
    if generates_tokens(network) and checkpoint.labels is None:
        emitted = TensorSpec(EMITTED, "int32", (), vocabulary_size=network.output_size)
        limit = _STEP_LIMIT if network.encoder is not None else None
        return GenerateSpec(emitted, INPUT, sampled=True, step_limit=limit)
    if generates_values(network, checkpoint.normalisation):
        # The last output of a residual network also depends on its last input, which no state holds.
        values = TensorSpec(EMITTED, "float32", (network.output_size,))
        return GenerateSpec(values, INPUT, graph=not network.residual)
    return None


def network_json(spec: NetworkSpec) -> str:
    """Returns the value under NETWORK_KEY."""
    return json.dumps(spec.to_dict())


def network_spec(text: str) -> NetworkSpec:
    """Reads the value under NETWORK_KEY; raises ValueError or TypeError where the text is no such value."""
    return NetworkSpec.from_dict(json.loads(text))


def _state(network: Network) -> tuple[StatePair, ...]:
    spec = network.spec
    if not spec.streamable:
        return ()
    parts = tuple(StatePart(name, offset, size) for name, offset, size in spec.state_parts())
    initial: float | tuple[float, ...] = 0.0
    if spec.learn_initial_state:
        initial = tuple(network.initial_state.astype("float32").tolist())
    return (StatePair(STATE, STATE_OUT, "float32", (spec.state_size,), parts=parts, initial=initial),)
