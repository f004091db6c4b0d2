"""Matches state inputs and outputs by evidence, and refuses graphs that leave a choice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.export.foreign_graphs import (
    ForeignGraph,
    constant,
    hidden_lstm,
    make,
    one_row_with_a_rate,
    ring_buffer,
    run_package,
    sequence,
    tensor,
    two_sums,
)

from statewise.export import SourceError, import_onnx, read_package, verify_package


@pytest.mark.parametrize(
    ("make_graph", "options", "complaint"),
    [
        (
            two_sums,
            {},
            r"a could go on as c or d; b could go on as c or d; .*\(--state a=c\) or .* \(--input a\)",
        ),
        (lambda: ring_buffer(("p", "q")), {}, "x could go on as y; p could go on as q; declare"),
        (
            hidden_lstm,
            {},
            r"no state found: .*x \['T', 'B', 3\]; y \['T', 'B', 8\].*expose it \(--expose-state\)",
        ),
        (
            one_row_with_a_rate,
            {"constants": {"rate": 1}},
            "constant 'rate': expected one of 'input', 'state', 'sr'",
        ),
        (two_sums, {"state": {"a": "e"}}, "state 'e': expected one of 'c', 'd'"),
        (two_sums, {"expose_state": True}, "expected an RNN, LSTM, GRU, Loop or Scan operator"),
        (two_sums, {"state": {"a": "c", "b": "d"}}, "expected an input beside the state"),
    ],
)
def test_a_choice_that_the_graph_leaves_open_is_refused_with_the_candidates(
    tmp_path: Path, make_graph: Callable[..., ForeignGraph], options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SourceError, match=complaint):
        import_onnx(make_graph().save(tmp_path / "m.onnx"), tmp_path / "repository", **options)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hidden", "new_hidden"),
        ("state_in", "state_out"),
        ("prevCache", "nextCache"),
        ("h0", "hn"),
        ("h", "h_1"),
    ],
)
def test_names_that_are_alike(tmp_path: Path, before: str, after: str) -> None:
    """Data are alike in shape here, and called input and output."""
    nodes = [
        helper.make_node("Add", ["input", before], [after]),
        helper.make_node("Tanh", [after], ["output"]),
    ]
    vectors = ["B", 4]
    foreign = make(
        nodes,
        [tensor("input", vectors), tensor(before, vectors)],
        [tensor("output", vectors), tensor(after, vectors)],
    )
    spec = read_package(import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")).spec

    assert [entry.name for entry in spec.inputs + spec.outputs] == ["input", "output"]
    assert [part.name for part in spec.state[0].parts] == [before]


def test_a_declaration_decides(tmp_path: Path) -> None:
    package = import_onnx(two_sums().save(tmp_path / "m.onnx"), tmp_path / "repository", state={"b": "d"})
    found = read_package(package).spec

    assert (found.inputs[0].name, found.outputs[0].name) == ("a", "c")
    assert verify_package(package).passed


def chain(inputs: list[str], outputs: list[str]) -> ForeignGraph:
    """Vectors [B, 5]: each state is tanh of the one before plus itself, the data output is the last one
    negated."""
    x, *states = inputs
    y, *successors = outputs
    nodes, before = [], x
    for state, successor in zip(states, successors, strict=True):
        nodes.append(helper.make_node("Add", [before, state], [f"{successor}.sum"]))
        nodes.append(helper.make_node("Tanh", [f"{successor}.sum"], [successor]))
        before = successor
    nodes.append(helper.make_node("Neg", [before], [y]))
    vector = ["B", 5]
    return make(nodes, [tensor(name, vector) for name in inputs], [tensor(name, vector) for name in outputs])


@pytest.mark.parametrize(
    ("states", "successors"),
    [
        (["h1", "h2"], ["h1_out", "h2_out"]),
        (["m2", "m3"], ["m2_out", "m3_out"]),
        (["past_key_0", "past_key_1"], ["present_key_0", "present_key_1"]),
        (["h_0", "h_1"], ["h_0_new", "h_1_new"]),
        (["conv1_cache", "conv2_cache"], ["next_conv1_cache", "next_conv2_cache"]),
    ],
)
def test_states_that_differ_by_a_number_are_paired_by_it(
    tmp_path: Path, states: list[str], successors: list[str]
) -> None:
    foreign = chain(["x", *states], ["y", *successors])
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    text = (package / "model.toml").read_text()

    for state, successor in zip(states, successors, strict=True):
        assert f"# state {state} -> {successor}: alike in name" in text
    assert [entry.name for entry in read_package(package).spec.inputs] == ["x"]


@pytest.mark.parametrize(
    ("data", "state", "successor"),
    [("x", "last_x", "last_x_out"), ("feat", "feat0", "feat_out"), ("x", "prev_x", "next_x")],
)
def test_a_name_that_fits_data_too_decides_nothing(
    tmp_path: Path, data: str, state: str, successor: str
) -> None:
    file = chain([data, state], ["y", successor]).save(tmp_path / "m.onnx")

    with pytest.raises(SourceError, match=r"declare each one as state \(--state .*or as data \(--input"):
        import_onnx(file, tmp_path / "repository")
    spec = read_package(import_onnx(file, tmp_path / "repository", inputs=[data])).spec
    assert [entry.name for entry in spec.inputs] == [data]


def test_shapes_alone_never_make_data_a_state(tmp_path: Path) -> None:
    """h is evidently state; x has the shape of y, z of v, and both are data."""
    nodes = [
        helper.make_node("Add", ["x", "h"], ["h_out"]),
        helper.make_node("Tanh", ["h_out"], ["y"]),
        helper.make_node("Neg", ["z"], ["v"]),
    ]
    foreign = make(
        nodes,
        [tensor("x", ["B", 5]), tensor("z", ["B", 3]), tensor("h", ["B", 5])],
        [tensor("y", ["B", 5]), tensor("v", ["B", 3]), tensor("h_out", ["B", 5])],
    )
    file = foreign.save(tmp_path / "m.onnx")

    with pytest.raises(SourceError, match="z could go on as v"):
        import_onnx(file, tmp_path / "repository")
    spec = read_package(import_onnx(file, tmp_path / "repository", inputs=["x", "z"])).spec
    assert [part.name for part in spec.state[0].parts] == ["h"]


def test_a_state_can_be_the_only_output(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "h"], ["s"]), helper.make_node("Tanh", ["s"], ["h_out"])]
    vector = ["B", 5]
    foreign = make(nodes, [tensor("x", vector), tensor("h", vector)], [tensor("h_out", vector)])
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence(rows=2, features=5)

    y, (state,) = run_package(package, x)

    h = np.zeros((2, 5), np.float32)
    for step in range(len(x)):
        h = np.tanh(x[step] + h)
        np.testing.assert_allclose(y[step], h, atol=1e-6)
    np.testing.assert_allclose(state, h, atol=1e-6)
    assert "output h_out: the state is also what callers get" in (package / "model.toml").read_text()


def test_an_input_that_nothing_reads_is_left_out_with_a_note(tmp_path: Path) -> None:
    foreign = chain(["x", "h"], ["y", "h_out"])
    foreign.model.graph.input.append(tensor("spare", ["B", 7]))
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")

    assert [entry.name for entry in read_package(package).spec.inputs] == ["x"]
    assert "# input spare is left out: no output depends on it\n" in (package / "model.toml").read_text()


def test_an_output_that_depends_on_no_input_is_left_out_with_a_note(tmp_path: Path) -> None:
    """A version number among the outputs has no batch axis, and would make every row run alone."""
    foreign = chain(["x", "h"], ["y", "h_out"])
    foreign.model.graph.initializer.append(constant("three", values=np.array([3], np.float32)))
    foreign.model.graph.node.append(helper.make_node("Identity", ["three"], ["version_number"]))
    foreign.model.graph.output.append(tensor("version_number", [1]))
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    text = (package / "model.toml").read_text()

    assert [entry.name for entry in read_package(package).spec.outputs] == ["y"]
    assert "# output version_number is left out: it depends on no input\n" in text
    assert "the graph takes one row" not in text
