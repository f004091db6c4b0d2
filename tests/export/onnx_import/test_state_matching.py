"""Matches state inputs and outputs by evidence, and refuses graphs that leave a choice."""

import pytest
from onnx import helper
from tests.export.foreign_graphs import (
    hidden_lstm,
    make,
    one_row_with_a_rate,
    ring_buffer,
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
            r"a could go on as c or d; b could go on as c or d; declare it \(--state INPUT=OUTPUT\)",
        ),
        (lambda: ring_buffer(("p", "q")), {}, "x could go on as y; p could go on as q; declare it"),
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
        (two_sums, {"expose_state": True}, "expected an RNN, LSTM or GRU operator"),
        (two_sums, {"state": {"a": "c", "b": "d"}}, "expected an input and an output beside the state"),
    ],
)
def test_a_choice_that_the_graph_leaves_open_is_refused_with_the_candidates(
    tmp_path, make_graph, options, complaint
):
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
def test_names_that_are_alike(tmp_path, before, after):
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


def test_a_declaration_decides(tmp_path):
    package = import_onnx(two_sums().save(tmp_path / "m.onnx"), tmp_path / "repository", state={"b": "d"})
    found = read_package(package).spec

    assert (found.inputs[0].name, found.outputs[0].name) == ("a", "c")
    assert verify_package(package).passed
