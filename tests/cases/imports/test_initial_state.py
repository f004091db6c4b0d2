"""Serves a cell whose state does not begin as zeros: one row of its five begins at -1e30."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.cases.foreign import import_graph, one_step, publish, served
from tests.cli.command import Finished, Server
from tests.export.foreign_graphs import ForeignGraph, constant, make, tensor

from statewise.client import Client

pytestmark = pytest.mark.long

C = 4
DATA = np.abs(np.random.default_rng(2).standard_normal((10, C)).astype(np.float32)) + 0.5
START = np.zeros((5, C), np.float32)
START[4] = -1e30
BY_HAND = """
[[inputs]]
name = "x"
axes = ["batch", 4]
[[outputs]]
name = "y"
axes = ["batch", 4]
[[state]]
input = "state"
output = "state_out"
axes = ["batch", 5, 4]
"""
RIGHT = ["imported-from-a-file", "list", "array", "patched", "encoded"]
"""The ways by which the state begins as it has to."""


def weighted_average() -> ForeignGraph:
    """One step of a cell as RWKV's (Peng et al. 2023): rows of the state are the sample before, twice, then
    numerator, denominator and largest exponent of an average weighted by exponentials."""
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Split", ["state", "ones"], ["xa", "xb", "aa", "bb", "pp"], {"axis": 1}),
        ("Unsqueeze", ["x", "one"], ["xr"], {}),
        ("Sub", ["xa", "xr"], ["dx"], {}),
        ("Mul", ["dx", "mix"], ["mx"], {}),
        ("Add", ["xr", "mx"], ["xm"], {}),
        ("Mul", ["xm", "kw"], ["k"], {}),
        ("Mul", ["xm", "vw"], ["v"], {}),
        ("Add", ["pp", "decay"], ["ppw"], {}),
        ("Max", ["ppw", "k"], ["p"], {}),
        ("Sub", ["ppw", "p"], ["d1"], {}),
        ("Exp", ["d1"], ["e1"], {}),
        ("Sub", ["k", "p"], ["d2"], {}),
        ("Exp", ["d2"], ["e2"], {}),
        ("Mul", ["e1", "aa"], ["a1"], {}),
        ("Mul", ["e2", "v"], ["a2"], {}),
        ("Add", ["a1", "a2"], ["aan"], {}),
        ("Mul", ["e1", "bb"], ["b1"], {}),
        ("Add", ["b1", "e2"], ["bbn"], {}),
        ("Div", ["aan", "bbn"], ["out"], {}),
        ("Squeeze", ["out", "one"], ["y"], {}),
        ("Concat", ["xr", "xa", "aan", "bbn", "p"], ["state_out"], {"axis": 1}),
    ]
    nodes = [
        helper.make_node(operator, inputs, outputs, **attributes)
        for operator, inputs, outputs, attributes in steps
    ]
    numbers = {
        "kw": [-300, 300, -500, 500],
        "mix": 0.5,
        "decay": np.full(C, -0.3),
    }
    return make(
        nodes,
        [tensor("x", ["batch", C]), tensor("state", ["batch", 5, C])],
        [tensor("y", ["batch", C]), tensor("state_out", ["batch", 5, C])],
        [
            constant("vw", C),
            constant("ones", values=np.array([1] * 5)),
            constant("one", values=np.array([1])),
            *(constant(name, values=np.asarray(value, np.float32)) for name, value in numbers.items()),
        ],
    )


def patched() -> ForeignGraph:
    """The way around: where the denominator is zero, the graph itself takes the right beginning."""
    foreign = weighted_average()
    graph = foreign.model.graph
    for node in graph.node:
        node.input[:] = ["begun" if name == "state" else name for name in node.input]
    front = [
        helper.make_node("Slice", ["state", "three", "four", "axis"], ["denominator"]),
        helper.make_node("Equal", ["denominator", "zero"], ["fresh"]),
        helper.make_node("Where", ["fresh", "start", "state"], ["begun"]),
    ]
    nodes = [*front, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        [
            constant("start", values=START[None]),
            constant("zero", values=np.array(0, np.float32)),
            constant("three", values=np.array([3])),
            constant("four", values=np.array([4])),
            constant("axis", values=np.array([1])),
        ]
    )
    onnx.checker.check_model(foreign.model, full_check=True)
    return foreign


ENCODE = """
[encode]
lengths = "lengths"
state = ["state_out"]
[[encode.inputs]]
name = "c"
dtype = "float32"
shape = [1]
"""


def encoder() -> ForeignGraph:
    """An encoder whose state is the right beginning whatever it reads, c [T, B, 1]."""
    nodes = [
        helper.make_node("Shape", ["c"], ["rows"], start=1, end=2),
        helper.make_node("Concat", ["rows", "rest"], ["shape"], axis=0),
        helper.make_node("Expand", ["start", "shape"], ["state_out"]),
    ]
    return make(
        nodes,
        [tensor("c", ["T", "B", 1]), tensor("lengths", ["B"], onnx.TensorProto.INT32)],
        [tensor("state_out", ["B", 5, C])],
        [constant("start", values=START[None]), constant("rest", values=np.array([5, C]))],
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("initial") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said; the same graph is published by hand."""
    foreign = weighted_average()
    start = repository.with_name("start.npy")
    np.save(start, START)
    publish(repository, "list", foreign, f"{BY_HAND}initial = {START.tolist()}\n")
    publish(repository, "array", foreign, f'{BY_HAND}initial = "initial.npy"\n')
    np.save(repository / "array" / "1" / "initial.npy", START)
    publish(repository, "patched", patched(), BY_HAND)
    publish(repository, "encoded", foreign, BY_HAND + ENCODE)
    encoder().save(repository / "encoded" / "1" / "encode.onnx")
    return {
        "zeros": import_graph(repository, "imported-as-zeros", foreign),
        "number": import_graph(repository, "imported-number", foreign, "--initial", "state=-1e30"),
        "file": import_graph(repository, "imported-from-a-file", foreign, "--initial", f"state={start}"),
    }


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


def test_import_says_how_the_state_begins(imports: dict[str, Finished]) -> None:
    for done, begins in (
        (imports["zeros"], "begins as zeros"),
        (imports["number"], "begins as -1e+30"),
        (imports["file"], "begins as the given array"),
    ):
        assert done.code == 0, done.err
        assert begins in done.err
    # Zeros are wrong here: a first step divides by zero.
    assert "a state has to begin otherwise (--initial STATE=NUMBER or FILE)" in imports["zeros"].err


@pytest.mark.parametrize("name", RIGHT)
def test_sessions_are_right_from_their_first_step(client: Client, name: str) -> None:
    model = served(client)[name]
    assert model.status == "ready", model.failure
    expected = one_step(weighted_average(), DATA, {"state": START[None]}, {"state": "state_out"})
    assert np.isfinite(expected).all()
    condition = np.zeros((1, 1), np.float32) if name == "encoded" else None
    with client.session(name, condition=condition) as session:
        found = np.stack([session.step(sample) for sample in DATA])
    np.testing.assert_allclose(found, expected, atol=1e-5)
