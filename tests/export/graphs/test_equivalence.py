"""Compares every graph with the NumPy network it was made from, on ragged batches."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tests.export.checkpoints import make_checkpoint

from statewise.export import export_checkpoint
from statewise.export.package import read_package
from statewise.models import Network
from statewise.models.base import Array

LENGTHS = np.array([7, 1, 4, 7, 2])
BOUND = 1e-5

CELLS = [
    pytest.param({"cell": "lstm"}, id="lstm"),
    pytest.param({"cell": "lstm", "activation": "sigmoid"}, id="lstm-sigmoid-candidate"),
    pytest.param({"cell": "gru"}, id="gru-reset-before"),
    pytest.param({"cell": "gru", "reset_after": True}, id="gru-reset-after"),
    pytest.param({"cell": "rnn"}, id="rnn-tanh"),
    pytest.param({"cell": "rnn", "activation": "relu"}, id="rnn-relu"),
    pytest.param({"cell": "rnn", "activation": "sigmoid"}, id="rnn-sigmoid"),
]
STACKS = [
    pytest.param(
        {"layers": layers, "bidirectional": both}, id=f"{layers}-layers-{'both' if both else 'one'}-way"
    )
    for layers in (1, 2)
    for both in (False, True)
]
SHAPES = ["many_to_many", "many_to_one", "one_to_one"]


def session(package: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(package / "model.onnx", options, providers=["CPUExecutionProvider"])


def run(
    graph: onnxruntime.InferenceSession, x: Array, lengths: Sequence[int] | Array | None, state: Array | None
) -> tuple[Array, Array | None]:
    names = [entry.name for entry in graph.get_inputs()]
    counts = None if lengths is None else np.asarray(lengths, np.int32)
    feed = {"x": x, "lengths": counts, "state": state}
    y, *rest = graph.run(None, {name: feed[name] for name in names})
    return y, rest[0] if rest else None


def valid(y: Array, per_step: bool) -> Array:
    return y[np.arange(len(y))[:, None] < LENGTHS] if per_step else y


def assert_close(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < BOUND * np.abs(expected).max()


@pytest.mark.parametrize("call_shape", SHAPES)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("cell", CELLS)
def test_graph_equals_numpy_on_a_ragged_batch(
    tmp_path: Path, cell: dict[str, Any], stack: dict[str, Any], call_shape: str
) -> None:
    checkpoint = make_checkpoint(call_shape=call_shape, **cell, **stack)
    spec = checkpoint.network.spec
    rng = np.random.default_rng(1)
    x = rng.standard_normal((7, 5, spec.input_size)).astype(np.float32)
    state = rng.uniform(-1, 1, (5, spec.state_size)).astype(np.float32) if spec.streamable else None
    graph = session(export_checkpoint(checkpoint, tmp_path))

    if call_shape == "one_to_one":
        expected, expected_state = checkpoint.predict(x[:1])
        found, found_state = run(graph, x[0], None, None)
        assert_close(found, expected)
    else:
        expected, expected_state = checkpoint.predict(x, LENGTHS, state)
        found, found_state = run(graph, x, LENGTHS, state)
        assert_close(valid(found, not spec.final), valid(expected, not spec.final))
    assert (found_state is None) == (expected_state is None)
    if found_state is not None and expected_state is not None:
        assert_close(found_state, expected_state)


@pytest.mark.parametrize(
    "fields",
    [
        {"head": "softmax"},
        {"head": "sigmoid"},
        {"head": "softmax", "call_shape": "many_to_one"},
        {"residual": True, "output_size": 5},
        {"residual": True, "output_size": 2},
        {"transform": "sqrt"},
        {"output_size": 0},
        {"output_size": 0, "call_shape": "many_to_one"},
    ],
    ids=str,
)
def test_head_residual_normalisation_and_none_of_them_equal_numpy(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    checkpoint = make_checkpoint(**fields)
    rng = np.random.default_rng(2)
    # Square roots are steep near zero; negative inputs must count as zero.
    x = rng.uniform(0.5, 4, (7, 5, 5)).astype(np.float32)
    x[2, 1] = -1
    graph = session(export_checkpoint(checkpoint, tmp_path))

    expected, _ = checkpoint.predict(x, LENGTHS)
    found, _ = run(graph, x, LENGTHS, np.zeros((5, checkpoint.network.spec.state_size), np.float32))

    per_step = not checkpoint.network.spec.final
    assert_close(valid(found, per_step), valid(expected, per_step))


def test_tokens_are_embedded_in_the_graph(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(input_size=9, embedding_size=4, output_size=9, head="softmax")
    tokens = np.random.default_rng(3).integers(0, 9, (7, 5)).astype(np.int32)
    graph = session(export_checkpoint(checkpoint, tmp_path))

    expected, _ = checkpoint.predict(tokens, LENGTHS)
    found, _ = run(graph, tokens, LENGTHS, np.zeros((5, checkpoint.network.spec.state_size), np.float32))

    assert_close(valid(found, True), valid(expected, True))


@pytest.mark.parametrize("call_shape", SHAPES)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_package_begins_in_the_learned_state(
    tmp_path: Path, cell: dict[str, Any], stack: dict[str, Any], call_shape: str
) -> None:
    """The state of a graph that has one is in the metadata; a graph without has it inside."""
    checkpoint = make_checkpoint(call_shape=call_shape, learn_initial_state=True, **cell, **stack)
    spec = checkpoint.network.spec
    single = call_shape == "one_to_one"
    x = np.random.default_rng(7).standard_normal((1 if single else 7, 5, spec.input_size)).astype(np.float32)
    lengths = None if single else LENGTHS
    package = export_checkpoint(checkpoint, tmp_path)

    states = [pair.initial_state() for pair in read_package(package).spec.state]
    assert len(states) == spec.streamable
    begin = np.tile(states[0], (5, 1)) if states else None
    expected, _ = checkpoint.predict(x, lengths)
    found, _ = run(session(package), x[0] if single else x, lengths, begin)

    for state in states:
        np.testing.assert_array_equal(state, checkpoint.network.initial_state)
    per_step = not spec.final
    assert_close(valid(found, per_step), valid(expected, per_step))


@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
@pytest.mark.parametrize("cell", [cell for cell in CELLS if "rnn" not in str(cell.id)])
def test_step_by_step_equals_whole_bit_for_bit(tmp_path: Path, cell: dict[str, Any], call_shape: str) -> None:
    checkpoint = make_checkpoint(layers=2, hidden_size=32, call_shape=call_shape, **cell)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((30, 1, 5)).astype(np.float32)
    start = rng.uniform(-1, 1, (1, checkpoint.network.spec.state_size)).astype(np.float32)
    graph = session(export_checkpoint(checkpoint, tmp_path))

    whole, whole_state = run(graph, x, [30], start)
    outputs: list[Array] = []
    state: Array | None = start
    for step in x:
        y, state = run(graph, step[None], [1], state)
        outputs.append(y)
    stepped = np.concatenate(outputs) if call_shape == "many_to_many" else outputs[-1]

    np.testing.assert_array_equal(stepped, whole)
    np.testing.assert_array_equal(state, whole_state)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if "rnn" not in str(cell.id)])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(tmp_path: Path, cell: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(hidden_size=32, **cell)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 64, 5)).astype(np.float32)
    start = rng.uniform(-1, 1, (64, checkpoint.network.spec.state_size)).astype(np.float32)
    graph = session(export_checkpoint(checkpoint, tmp_path))

    together, states = run(graph, x, np.ones(64), start)
    assert states is not None
    for row in (0, 1, 31, 63):
        one = slice(row, row + 1)
        alone, state = run(graph, x[:, one], [1], start[one])
        np.testing.assert_array_equal(alone, together[:, one])
        np.testing.assert_array_equal(state, states[one])


def test_many_to_one_reads_the_final_state_not_the_last_row(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(call_shape="many_to_one", bidirectional=True)
    x = np.random.default_rng(6).standard_normal((7, 2, 5)).astype(np.float32)
    graph = session(export_checkpoint(checkpoint, tmp_path))

    padded, _ = run(graph, x, [3, 7], None)
    other_padding = x.copy()
    other_padding[3:, 0] = 100
    again, _ = run(graph, other_padding, [3, 7], None)
    alone, _ = run(graph, x[:3, :1], [3], None)

    np.testing.assert_array_equal(padded, again)
    np.testing.assert_array_equal(padded[:1], alone)


def test_a_float64_network_leaves_as_float32(tmp_path: Path) -> None:
    single = make_checkpoint()
    double = replace(
        single, network=Network(single.network.spec, dict(single.network.parameters), dtype=np.float64)
    )

    first = export_checkpoint(single, tmp_path, name="single")
    second = export_checkpoint(double, tmp_path, name="double")

    x = np.ones((2, 1, 5), np.float32)
    state = np.zeros((1, 22), np.float32)
    np.testing.assert_array_equal(
        run(session(first), x, [2], state)[0], run(session(second), x, [2], state)[0]
    )
