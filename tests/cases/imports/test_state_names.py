"""Imports graphs whose names suggest states: pairs that fit one input only, and data like a state."""

from pathlib import Path

import pytest
from onnx import helper
from tests.cases.foreign import import_graph
from tests.export.foreign_graphs import ForeignGraph, make, tensor

pytestmark = pytest.mark.long


def graph(nodes: list[tuple[str, list[str], list[str]]], ins: list[str], outs: list[str]) -> ForeignGraph:
    return make(
        [helper.make_node(*node) for node in nodes],
        [tensor(name, ["batch", 5]) for name in ins],
        [tensor(name, ["batch", 5]) for name in outs],
    )


@pytest.mark.parametrize(
    ("a", "b", "a_out", "b_out"),
    [
        ("h1", "h2", "h1_out", "h2_out"),
        ("past_key_0", "past_key_1", "present_key_0", "present_key_1"),
    ],
)
def test_two_states_of_one_shape_are_paired_by_their_numbers(
    tmp_path: Path, a: str, b: str, a_out: str, b_out: str
) -> None:
    foreign = graph(
        [
            ("Add", ["x", a], ["t1"]),
            ("Tanh", ["t1"], [a_out]),
            ("Add", [a_out, b], ["t2"]),
            ("Tanh", ["t2"], [b_out]),
            ("Neg", [b_out], ["y"]),
        ],
        ["x", a, b],
        ["y", a_out, b_out],
    )
    done = import_graph(tmp_path / "models", "m", foreign)
    assert done.code == 0, done.err
    assert f"state {a} -> {a_out}: " in done.err
    assert f"state {b} -> {b_out}: " in done.err


@pytest.mark.parametrize(("data", "state"), [("x", "last_x"), ("feat", "feat0")])
def test_data_is_not_taken_for_state(tmp_path: Path, data: str, state: str) -> None:
    """The output's name fits the data better than the state."""
    after = "last_x_out" if data == "x" else "feat_out"
    foreign = graph(
        [("Sub", [data, state], ["d"]), ("Neg", ["d"], ["y"]), ("Add", [data, state], [after])],
        [data, state],
        ["y", after],
    )
    done = import_graph(tmp_path / "models", "m", foreign)
    assert f"state {data} ->" not in done.err
    # Either the right pair was found, or the refusal says how to declare it.
    assert (done.code == 0 and f"state {state} -> {after}" in done.err) or "--state" in done.complaint
