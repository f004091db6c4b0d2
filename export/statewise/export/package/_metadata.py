"""What a package says of itself, under two keys of model.onnx's metadata, for the graphs beside it too.

`statewise` is the contract with the server (statewise.wire.ModelSpec). `statewise.network` is the spec of the
NumPy network, with which `verify` rebuilds it from the graphs' own weights; servers ignore it.
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
from statewise.models import Checkpoint, NetworkSpec
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

_STEP_LIMIT = 64  # a decoder that never stops is cut off here, several times the longest pronunciation


def model_spec(checkpoint: Checkpoint, origin: Mapping[str, str]) -> ModelSpec:
    """What the graphs of a checkpoint take, give and keep; origin says where it comes from."""
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
        state=_state(network),
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
    """A checkpoint's vocabulary in the words of the metadata."""
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
        # What a residual network says last is a function of its last input too, which no state holds.
        values = TensorSpec(EMITTED, "float32", (network.output_size,))
        return GenerateSpec(values, INPUT, graph=not network.residual)
    return None


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
