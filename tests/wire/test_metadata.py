"""Reads and writes metadata; a malformed entry is named with what was expected and found."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.strategies import specs, words

from statewise.v1 import model_pb2
from statewise.wire import (
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


@given(specs)
def test_what_is_written_can_be_read_back(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec


@given(specs)
def test_what_is_written_as_toml_can_be_read_back(spec: ModelSpec) -> None:
    assert ModelSpec.from_toml(spec.to_toml()) == spec


def test_toml_that_is_none_or_of_another_form_is_refused() -> None:
    with pytest.raises(MetadataError, match="no TOML"):
        ModelSpec.from_toml("inputs = ")
    with pytest.raises(MetadataError, match="inputs: expected"):
        ModelSpec.from_toml("outputs = []")


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
    raw["inputs"][0]["default"] = 1
    spec = ModelSpec.from_json(json.dumps(raw))
    assert spec.inputs[0].default == 1.0
    assert (spec.lengths, spec.labels, spec.vocabulary, spec.notes) == (None, (), None, {})
    assert (spec.encode, spec.generate) == (None, None)
    assert spec.state[0] == StatePair("state", "state_out", "float32", (128,))


def changed(entries: dict[str, object]) -> str:
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
    ("path", "value", "message"),
    [
        ("inputs", ..., "inputs: expected this entry"),
        ("call_shapes", ..., "call_shapes: expected this entry"),
        ("inputs.0.name", ..., r"inputs\[0\].name: expected this entry"),
        ("state.0.output", ..., r"state\[0\].output: expected this entry"),
        ("state.0.parts.1.size", ..., r"state\[0\].parts\[1\].size: expected this entry"),
        ("vocabulary.tokens", ..., "vocabulary.tokens: expected this entry"),
        ("surprise", 1, "surprise: no entry of that name"),
        ("inputs.0.surprise", 1, r"inputs\[0\].surprise: no entry of that name"),
        ("vocabulary.surprise", 1, "vocabulary.surprise: no entry of that name"),
        ("encode.inputs", ..., "encode.inputs: expected this entry"),
        ("encode.surprise", 1, "encode.surprise: no entry of that name"),
        ("encode.inputs.0.shape", [0], r"encode.inputs\[0\].shape: expected positive integers"),
        ("generate.input", ..., "generate.input: expected this entry"),
        ("generate.emitted.dtype", "token", "generate.emitted.dtype: expected one of float32, .*'token'"),
        ("vocabulary.conditions", {"a": 4}, "vocabulary.conditions.a: expected a token below 4; got 4"),
        ("inputs", None, "inputs: expected a list; got None"),
        ("inputs.0", 3, r"inputs\[0\]: expected an object; got 3"),
        ("inputs.0.name", 3, r"inputs\[0\].name: expected text; got 3"),
        ("inputs.0.per_step", 1, r"inputs\[0\].per_step: expected true or false; got 1"),
        ("inputs.0.shape", 12, r"inputs\[0\].shape: expected a list; got 12"),
        ("inputs.0.shape", [True], r"inputs\[0\].shape\[0\]: expected an integer; got True"),
        ("inputs.0.shape", [0], r"inputs\[0\].shape: expected positive integers; got \[0\]"),
        ("inputs.0.dtype", "float", r"inputs\[0\].dtype: expected one of float32, .*; got 'float'"),
        ("state", [None], r"state\[0\]: expected an object; got None"),
        ("state.0.shape", ["64"], r"state\[0\].shape\[0\]: expected an integer; got '64'"),
        ("state.0.initial", "0", r"state\[0\].initial: expected a number or a list; got '0'"),
        ("state.0.initial", 10**400, r"state\[0\].initial: expected a number"),
        ("state.0.initial", [1, 2], r"state\[0\].initial: expected a number, or 128 of them .*; got 2"),
        ("state.0.batch_axis", 2, r"state\[0\].batch_axis: expected 0 to 1; got 2"),
        ("call_shapes", ["one_to_none"], r"call_shapes\[0\]: expected one of one_to_one, .*'one_to_none'"),
        ("labels", "abc", "labels: expected a list; got 'abc'"),
        ("labels", [1], r"labels\[0\]: expected text; got 1"),
        ("vocabulary", 5, "vocabulary: expected an object; got 5"),
        ("vocabulary.end", 4, "vocabulary.end: expected a token below 4; got 4"),
        ("notes", {"seed": 1}, "notes.seed: expected text; got 1"),
        ("lengths", 5, "lengths: expected text; got 5"),
        ("format", 2, "format 1"),
        ("format", ..., "format 1"),
    ],
)
def test_a_malformed_entry_is_named_with_what_was_expected_and_got(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(MetadataError, match=message):
        ModelSpec.from_json(changed({path: value}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "got list"),
        ("3", "got int"),
        ("null", "got NoneType"),
    ],
)
def test_a_value_that_is_no_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        ModelSpec.from_json(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


PATHS = [
    "inputs",
    "outputs",
    "state",
    "state.0.parts",
    "call_shapes",
    "labels",
    "vocabulary",
    "notes",
    "lengths",
]


@given(path=st.sampled_from([*PATHS, "inputs.0.shape", "inputs.0.dtype", "state.0.initial"]), value=values)
def test_any_json_is_read_or_refused(path: str, value: object) -> None:
    try:
        spec = ModelSpec.from_json(changed({path: value}))
    except MetadataError:
        return
    assert ModelSpec.from_json(spec.to_json()) == spec
