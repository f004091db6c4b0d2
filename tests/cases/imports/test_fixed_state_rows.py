"""Serves graphs whose data has free rows while their state is of one row, as some exporters leave them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.cases.foreign import import_graph, one_step, publish, served, stepped
from tests.cli.command import Finished, Server
from tests.export.foreign_graphs import HIDDEN, ForeignGraph, constant, lstm_weights, make, tensor
from tests.helpers.arrays import Array

from statewise.client import Client

pytestmark = pytest.mark.long

BY_HAND = {
    "lstm": """
        [[inputs]]
        name = "x"
        axes = ["batch", "time", 3]
        [[outputs]]
        name = "y"
        axes = ["batch", "time", 8]
        [[state]]
        input = "h0"
        output = "hn"
        axes = [1, "batch", 8]
        [[state]]
        input = "c0"
        output = "cn"
        axes = [1, "batch", 8]
    """,
    "gru": """
        [[inputs]]
        name = "x"
        axes = ["time", "batch", 20]
        [[outputs]]
        name = "y"
        axes = ["time", "batch", 20]
        [[state]]
        input = "h"
        output = "hn"
        axes = [1, "batch", 20]
    """,
    "cell": """
        [[inputs]]
        name = "obs"
        axes = ["batch", 6]
        [[outputs]]
        name = "action"
        axes = ["batch", 2]
        [[state]]
        input = "h_in"
        output = "h_out"
        axes = [1, "batch", 8]
    """,
}


def lstm() -> ForeignGraph:
    """x [B, T, 3], states [1, 1, 8]."""
    state = [1, 1, HIDDEN]
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["xt", "W", "R", "b", "", "h0", "c0"], ["Y", "hn", "cn"], hidden_size=HIDDEN, name="lstm"
        ),
        helper.make_node("Squeeze", ["Y", "one"], ["ys"]),
        helper.make_node("Transpose", ["ys"], ["y"], perm=[1, 0, 2]),
    ]
    return make(
        nodes,
        [tensor("x", ["batch", "time", 3]), tensor("h0", state), tensor("c0", state)],
        [tensor("y", ["batch", "time", HIDDEN]), tensor("hn", state), tensor("cn", state)],
        [*lstm_weights(), constant("one", values=np.array([1]))],
        check=False,
    )


def gru() -> ForeignGraph:
    """x [10, B, 20]: the steps are fixed, the rows free, the state of one row."""
    nodes = [
        helper.make_node(
            "GRU",
            ["x", "W", "R", "b", "", "h"],
            ["Y", "hn"],
            hidden_size=20,
            linear_before_reset=1,
            name="gru",
        ),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", [10, "batch_size", 20]), tensor("h", [1, 1, 20])],
        [tensor("y", [10, "batch_size", 20]), tensor("hn", [1, 1, 20])],
        [
            constant("W", 1, 60, 20),
            constant("R", 1, 60, 20),
            constant("b", 1, 120),
            constant("one", values=np.array([1])),
        ],
        check=False,
    )


def cell() -> ForeignGraph:
    """One step: obs [B, 6], state [1, 1, 8]."""
    nodes = [
        helper.make_node("Unsqueeze", ["obs", "zero"], ["xs"]),
        helper.make_node(
            "GRU", ["xs", "W", "R", "b", "", "h_in"], ["", "h_out"], hidden_size=HIDDEN, name="gru"
        ),
        helper.make_node("Squeeze", ["h_out", "zero"], ["h"]),
        helper.make_node("MatMul", ["h", "V"], ["action"]),
    ]
    return make(
        nodes,
        [tensor("obs", ["batch", 6]), tensor("h_in", [1, 1, HIDDEN])],
        [tensor("action", ["batch", 2]), tensor("h_out", [1, 1, HIDDEN])],
        [
            constant("W", 1, 3 * HIDDEN, 6),
            constant("R", 1, 3 * HIDDEN, HIDDEN),
            constant("b", 1, 6 * HIDDEN),
            constant("V", HIDDEN, 2),
            constant("zero", values=np.array([0])),
        ],
        check=False,
    )


GRAPHS = {"lstm": lstm(), "gru": gru(), "cell": cell()}


def alone(name: str, data: Array) -> Array:
    """Outputs of the file by itself, for one row."""
    zeros = np.zeros((1, 1, HIDDEN), np.float32)
    if name == "lstm":
        found = GRAPHS[name].run({"x": data[None], "h0": zeros, "c0": zeros})
        return np.asarray(found["y"][0])
    return one_step(GRAPHS[name], data, {"h_in": zeros}, {"h_in": "h_out"}, x="obs", y="action")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fixed_rows") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said; the same graphs are published by hand."""
    done = {}
    for name, foreign in GRAPHS.items():
        publish(repository, f"{name}-by-hand", foreign, BY_HAND[name])
        done[name] = import_graph(repository, f"{name}-imported", foreign)
    return done


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


def test_free_steps_are_imported_and_fixed_ones_refused_with_the_way_out(
    imports: dict[str, Finished],
) -> None:
    assert (imports["lstm"].code, imports["cell"].code) == (0, 0), imports
    assert "GRU 'gru' reads 10 steps in every run" in imports["gru"].complaint
    assert "--axes" in imports["gru"].complaint


def test_fixed_steps_by_hand_are_a_failed_version(client: Client) -> None:
    model = served(client)["gru-by-hand"]
    assert model.status == "failed"
    assert "with batch free or 1 and time free or 1" in model.failure


@pytest.mark.parametrize("way", ["imported", "by-hand"])
@pytest.mark.parametrize(("name", "width"), [("lstm", 3), ("cell", 6)])
def test_sessions_and_rows_of_a_batch_have_states_of_their_own(
    client: Client, name: str, width: int, way: str
) -> None:
    model = served(client)[f"{name}-{way}"]
    assert model.status == "ready", model.failure
    data = np.random.default_rng(2).standard_normal((12, width)).astype(np.float32)
    expected = alone(name, data)
    np.testing.assert_allclose(stepped(client, model.name, data), expected, atol=1e-5)
    found = client.predict(model.name, np.stack([data, data * 2]))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_allclose(found[1], alone(name, data * 2), atol=1e-5)
