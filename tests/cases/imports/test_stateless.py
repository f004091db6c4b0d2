"""Serves graphs without state inputs: import says which way there is, and `predict` is right."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.cases.foreign import import_graph, publish, served, stepped
from tests.cli.command import Finished, Server
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    INT64,
    ForeignGraph,
    constant,
    lstm_weights,
    make,
    tensor,
)

from statewise.client import Client, NotStreamable

pytestmark = pytest.mark.long

DATA = np.random.default_rng(2).standard_normal((12, 3)).astype(np.float32)


def classifier() -> ForeignGraph:
    """x [B, T, 3] through a bidirectional LSTM; p [B, 4] after its last steps."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["xt", "W", "R", "b"], ["", "hn"], hidden_size=HIDDEN, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["hn"], ["ht"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["ht", "flat"], ["h"]),
        helper.make_node("MatMul", ["h", "V"], ["l"]),
        helper.make_node("Softmax", ["l"], ["p"], axis=-1),
    ]
    return make(
        nodes,
        [tensor("x", ["batch", "time", INPUTS])],
        [tensor("p", ["batch", 4])],
        [
            constant("W", 2, 4 * HIDDEN, INPUTS),
            constant("R", 2, 4 * HIDDEN, HIDDEN),
            constant("b", 2, 8 * HIDDEN),
            constant("V", 2 * HIDDEN, 4),
            constant("flat", values=np.array([0, -1])),
        ],
    )


def loop() -> ForeignGraph:
    """x [T, B, 3]: y [T, B, 8] carried in a Loop, from zeros that the graph makes."""
    row = ["B", HIDDEN]
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "i"], ["s"], axis=0),
            helper.make_node("MatMul", ["s", "W"], ["a"]),
            helper.make_node("MatMul", ["c", "R"], ["r"]),
            helper.make_node("Add", ["a", "r"], ["n"]),
            helper.make_node("Tanh", ["n"], ["k"]),
            helper.make_node("Identity", ["k"], ["o"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [tensor("i", [], INT64), tensor("go", [], TensorProto.BOOL), tensor("c", row)],
        [tensor("go_on", [], TensorProto.BOOL), tensor("k", row), tensor("o", row)],
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["t"], start=0, end=1),
        helper.make_node("Squeeze", ["t"], ["T"]),
        helper.make_node("Shape", ["x"], ["rows"], start=1, end=2),
        helper.make_node("Concat", ["rows", "units"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Loop", ["T", "", "zeros"], ["last", "y"], body=body),
    ]
    return make(
        nodes,
        [tensor("x", ["T", "B", INPUTS])],
        [tensor("y", ["T", "B", HIDDEN])],
        [
            constant("W", INPUTS, HIDDEN),
            constant("R", HIDDEN, HIDDEN),
            constant("units", values=np.array([HIDDEN])),
        ],
    )


def of_32_rows() -> ForeignGraph:
    """x [T, 32, 3]: an LSTM that begins with 32 rows of zeros and takes no other number of rows."""
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "b", "", "z", "z"], ["Y"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", ["T", 32, INPUTS])],
        [tensor("y", ["T", 32, HIDDEN])],
        [
            *lstm_weights(),
            constant("one", values=np.array([1])),
            constant("z", values=np.zeros((1, 32, HIDDEN), np.float32)),
        ],
    )


GRAPHS = {"classifier": classifier(), "loop": loop(), "of-32-rows": of_32_rows()}
TIME_FIRST = """
[[inputs]]
name = "x"
axes = ["time", "batch", 3]
[[outputs]]
name = "y"
axes = ["time", "batch", 8]
"""
CLASSES = """
[[inputs]]
name = "x"
axes = ["batch", "time", 3]
[[outputs]]
name = "p"
axes = ["batch", 4]
"""
BY_HAND = {"classifier": CLASSES, "loop": TIME_FIRST, "of-32-rows": TIME_FIRST}
OPTIONS = {"plain": (), "exposed": ("--expose-state",)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stateless") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said; the same graphs are published by hand, with a model.toml and without."""
    done = {}
    for name, foreign in GRAPHS.items():
        publish(repository, f"{name}-by-hand", foreign, BY_HAND[name])
        publish(repository, f"{name}-nothing", foreign)
        publish(repository, f"{name}-empty", foreign, "# nothing\n")
        for way, options in OPTIONS.items():
            done[f"{name}-{way}"] = import_graph(repository, f"{name}-{way}", foreign, *options)
    return done


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("way", OPTIONS)
def test_it_is_imported_or_the_refusal_tells_the_way(
    imports: dict[str, Finished], name: str, way: str
) -> None:
    done = imports[f"{name}-{way}"]
    assert done.code == 0 or "model.toml" in done.complaint


@pytest.mark.parametrize("name", ["classifier", "loop"])
def test_what_model_toml_declares_predicts_as_the_file_and_has_no_sessions(client: Client, name: str) -> None:
    model = served(client)[f"{name}-by-hand"]
    assert model.status == "ready", model.failure
    (output,) = (entry.name for entry in GRAPHS[name].model.graph.output)
    feed = DATA[None] if name == "classifier" else DATA[:, None]
    found = GRAPHS[name].run({"x": feed})[output]
    expected = found[0] if name == "classifier" else found[:, 0]
    np.testing.assert_allclose(client.predict(model.name, DATA), expected, atol=1e-5)
    first, _ = client.predict(model.name, [DATA, DATA[:5]])
    np.testing.assert_allclose(first, expected, atol=1e-5)
    with pytest.raises(NotStreamable):
        client.session(model.name).step(DATA[0])


def test_rows_that_the_graph_fixes_are_no_batch(client: Client) -> None:
    model = served(client)["of-32-rows-by-hand"]
    assert model.status == "failed"
    assert "batch free or 1" in model.failure


@pytest.mark.parametrize("name", GRAPHS)
def test_without_model_toml_the_failure_asks_for_it(client: Client, name: str) -> None:
    model = served(client)[f"{name}-nothing"]
    assert model.status == "failed"
    assert "model.toml" in model.failure


def test_a_loop_whose_state_was_exposed_has_sessions(client: Client) -> None:
    expected = GRAPHS["loop"].run({"x": DATA[:, None]})["y"][:, 0]
    np.testing.assert_allclose(client.predict("loop-exposed", DATA), expected, atol=1e-5)
    np.testing.assert_allclose(stepped(client, "loop-exposed", DATA), expected, atol=1e-5)
