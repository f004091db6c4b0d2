import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.v1 import model_pb2
from statewise.wire import (
    DTYPES,
    CallShape,
    EncodeSpec,
    GenerateSpec,
    MetadataError,
    ModelSpec,
    StatePair,
    StatePart,
    TensorSpec,
    Vocabulary,
)

CLASSIFIER = ModelSpec(
    inputs=(TensorSpec("x", "float32", (12,)),),
    outputs=(TensorSpec("y", "float32", (9,), per_step=False),),
    state=(
        StatePair(
            "state",
            "state_out",
            "float32",
            (128,),
            parts=(StatePart("layer0.h", 0, 64), StatePart("layer0.c", 64, 64)),
        ),
    ),
    call_shapes=(CallShape.MANY_TO_ONE,),
    lengths="lengths",
    labels=("one", "two"),
    vocabulary=Vocabulary(("a", "b", "é", "."), end=3),
    encode=EncodeSpec((TensorSpec("x", "int32", (), vocabulary_size=4),), ("state_out",)),
    generate=GenerateSpec(TensorSpec("emitted", "int32", ()), "x", sampled=True),
    notes={"recipe": "vowels"},
)

words = st.text(max_size=8)
shapes = st.lists(st.integers(1, 2**40), max_size=4).map(tuple)
dtypes = st.sampled_from(sorted(DTYPES))
numbers = st.integers(0, 3) | st.none()
tensors = st.builds(
    TensorSpec,
    name=words,
    dtype=dtypes,
    shape=shapes,
    per_step=st.booleans(),
    default=st.none() | st.floats(allow_nan=False),
    vocabulary_size=st.none() | st.integers(1, 10**6),
)
parts = st.builds(StatePart, name=words, offset=st.integers(0, 10**6), size=st.integers(1, 10**6))
states = st.builds(
    StatePair,
    input=words,
    output=words,
    dtype=dtypes,
    shape=shapes,
    batch_axis=st.integers(0, 3),
    initial=st.floats(allow_nan=False),
    parts=st.lists(parts, max_size=3).map(tuple),
)
vocabularies = st.builds(
    Vocabulary,
    tokens=st.lists(words, min_size=4, max_size=6).map(tuple),
    separator=words,
    case_folding=st.sampled_from(["", "upper", "lower"]),
    unknown=numbers,
    begin=numbers,
    end=numbers,
    pad=numbers,
    conditions=st.dictionaries(words, st.integers(0, 3), max_size=2),
)
encoders = st.builds(
    EncodeSpec,
    inputs=st.lists(tensors, min_size=1, max_size=2).map(tuple),
    state=st.lists(words, max_size=2).map(tuple),
    lengths=st.none() | words,
    vocabulary=st.none() | vocabularies,
)
generators = st.builds(
    GenerateSpec,
    emitted=tensors,
    input=words,
    sampled=st.booleans(),
    step_limit=st.none() | st.integers(1, 10**6),
)
specs = st.builds(
    ModelSpec,
    inputs=st.lists(tensors, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(tensors, min_size=1, max_size=3).map(tuple),
    state=st.lists(states, max_size=2).map(tuple),
    call_shapes=st.lists(st.sampled_from(CallShape), min_size=1, max_size=3, unique=True).map(tuple),
    lengths=st.none() | words,
    labels=st.lists(words, max_size=3).map(tuple),
    vocabulary=st.none() | vocabularies,
    encode=st.none() | encoders,
    generate=st.none() | generators,
    notes=st.dictionaries(words, words, max_size=3),
)


@given(specs)
def test_what_is_written_can_be_read_back(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_text_beyond_ascii_stays_readable_in_the_file() -> None:
    assert "é" in CLASSIFIER.to_json()


def test_call_shapes_are_those_of_the_contract() -> None:
    declared = set(model_pb2.CallShape.keys()) - {"CALL_SHAPE_UNSPECIFIED"}
    assert declared == {f"CALL_SHAPE_{shape.name}" for shape in CallShape}


def test_models_without_state_have_no_sessions() -> None:
    assert CLASSIFIER.streamable
    assert not ModelSpec.from_json(changed({"state": []})).streamable


def test_entries_with_defaults_may_be_left_out() -> None:
    raw = json.loads(CLASSIFIER.to_json())
    for name in ("lengths", "labels", "vocabulary", "encode", "generate", "notes"):
        del raw[name]
    for name in ("batch_axis", "initial", "parts"):
        del raw["state"][0][name]
    spec = ModelSpec.from_json(json.dumps(raw))
    assert (spec.lengths, spec.labels, spec.vocabulary, spec.notes) == (None, (), None, {})
    assert (spec.encode, spec.generate) == (None, None)
    assert spec.state[0] == StatePair("state", "state_out", "float32", (128,))


def changed(entries: dict[str, Any]) -> str:
    """CLASSIFIER's JSON with entries replaced, named by their path: {"inputs.0.shape": 3}."""
    raw = json.loads(CLASSIFIER.to_json())
    for path, value in entries.items():
        *parents, last = (int(step) if step.isdigit() else step for step in path.split("."))
        target = raw
        for parent in parents:
            target = target[parent]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("inputs", ..., "inputs"),
        ("outputs", ..., "outputs"),
        ("state", ..., "state"),
        ("call_shapes", ..., "call_shapes"),
        ("inputs.0.name", ..., "name"),
        ("inputs.0.shape", ..., "shape"),
        ("inputs.0.dtype", ..., "dtype"),
        ("state.0.output", ..., "output"),
        ("vocabulary.tokens", ..., "tokens"),
        ("surprise", 1, "surprise"),
        ("inputs.0.surprise", 1, "surprise"),
        ("state.0.parts.0.surprise", 1, "surprise"),
        ("vocabulary.surprise", 1, "surprise"),
        ("encode.inputs", ..., "inputs"),
        ("encode.surprise", 1, "surprise"),
        ("generate.emitted.dtype", "token", "expected a dtype"),
        ("generate.input", ..., "input"),
        ("inputs.0.shape", [0], r"shape of positive integers; got \[0\]"),
        ("state.0.shape", ["64"], r"shape of positive integers; got \['64'\]"),
        ("inputs.0.dtype", "float", "expected a dtype of float32, .*; got 'float'"),
        ("call_shapes", ["one_to_none"], "'one_to_none'"),
        ("format", 2, "format 1"),
        ("format", ..., "format 1"),
    ],
)
def test_a_malformed_entry_is_named(path: str, value: Any, named: str) -> None:
    with pytest.raises(MetadataError, match=named):
        ModelSpec.from_json(changed({path: value}))


@pytest.mark.parametrize(
    "path", ["inputs", "inputs.0", "inputs.0.shape", "state", "state.0.parts", "call_shapes"]
)
@pytest.mark.parametrize("value", [None, 5, True])
def test_an_entry_of_the_wrong_kind_is_refused(path: str, value: Any) -> None:
    with pytest.raises(MetadataError):
        ModelSpec.from_json(changed({path: value}))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no JSON"), ("{", "no JSON"), ("[]", "got list"), ("3", "got int"), ("null", "got NoneType")],
)
def test_a_value_that_is_no_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        ModelSpec.from_json(text)
