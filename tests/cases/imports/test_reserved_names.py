"""Serves graphs whose inputs, outputs and states have the names that packages use themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.cases.foreign import import_graph, one_step, publish, served, stepped
from tests.cli.command import Finished, Server, statewise
from tests.export.foreign_graphs import HIDDEN, ForeignGraph, constant, lstm_weights, make, step_cell, tensor
from tests.helpers.arrays import Array

from statewise.client import Client

pytestmark = pytest.mark.long

DATA = np.random.default_rng(5).standard_normal((6, 3)).astype(np.float32)
BY_HAND = """
[[inputs]]
name = "{x}"
axes = ["batch", 3]
[[outputs]]
name = "{y}"
axes = ["batch", 2]
[[state]]
input = "h_in"
output = "h_out"
axes = ["batch", 8]
"""


@dataclass(frozen=True)
class Named:
    """A graph, its names, and the options by which it is imported; None: it is published by hand."""

    foreign: ForeignGraph
    x: str
    y: str
    state: tuple[tuple[str, str], ...]
    options: tuple[str, ...] | None = ()

    def alone(self) -> Array:
        """Outputs [T, ...] of the file by itself."""
        if len(self.state) == 1:
            zeros = {before: np.zeros((1, HIDDEN), np.float32) for before, _ in self.state}
            return one_step(self.foreign, DATA, zeros, dict(self.state), x=self.x, y=self.y)
        feed: dict[str, Array] = {before: np.zeros((1, 1, HIDDEN), np.float32) for before, _ in self.state}
        if "n" in [entry.name for entry in self.foreign.model.graph.input]:
            feed["n"] = np.array([len(DATA)], np.int32)
        return self.foreign.run({self.x: DATA[:, None], **feed})[self.y][:, 0]


def cell(x: str = "x", y: str = "y", h: str = "h_in", h2: str = "h_out", *, declared: bool = True) -> Named:
    """One step, no time axis."""
    foreign = step_cell(x, h, y, h2)
    return Named(foreign, x, y, ((h, h2),), ("--state", f"{h}={h2}") if declared else ())


def lstm(x: str, y: str, lengths: str = "") -> Named:
    """An LSTM over time, which may take the lengths of its rows."""
    state: list[Any] = [1, "B", HIDDEN]
    nodes = [
        helper.make_node(
            "LSTM", [x, "W", "R", "b", lengths, "h0", "c0"], ["Y_", "hn", "cn"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["Y_", "one_"], [y]),
    ]
    foreign = make(
        nodes,
        [
            tensor(x, ["T", "B", 3]),
            tensor("h0", state),
            tensor("c0", state),
            *([tensor(lengths, ["B"], TensorProto.INT32)] if lengths else []),
        ],
        [tensor(y, ["T", "B", HIDDEN]), tensor("hn", state), tensor("cn", state)],
        [*lstm_weights(), constant("one_", values=np.array([1]))],
    )
    return Named(foreign, x, y, (("h0", "hn"), ("c0", "cn")))


def by_hand(x: str, y: str) -> Named:
    made = cell(x, y)
    return Named(made.foreign, x, y, made.state, None)


GRAPHS = {
    "data-called-state": cell(x="state"),
    "output-called-state_out": cell(y="state_out"),
    "both": cell(x="state", y="state_out"),
    "data-called-lengths": cell(x="lengths"),
    "states-called-state": cell(h="state", h2="state_out", declared=False),
    "lstm-data-called-state": lstm("state", "state_out"),
    "lstm-data-called-lengths": lstm("lengths", "y"),
    "lstm-with-lengths-and-such": lstm("lengths", "y", lengths="n"),
    "output-called-as-a-part": cell(y="h_in.after"),
    "data-called-h_in.shape": cell(x="h_in.shape"),
    "names-with-slash": cell(x="foreign/x", y="foreign/y", h="foreign/h", h2="foreign/h_out"),
    "by-hand": by_hand("state", "state_out"),
    "by-hand-lengths": by_hand("lengths", "y"),
}
IMPORTED = [name for name, named in GRAPHS.items() if named.options is not None]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reserved") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said; the others are published."""
    done = {}
    for name, named in GRAPHS.items():
        if named.options is None:
            publish(repository, name, named.foreign, BY_HAND.format(x=named.x, y=named.y))
        else:
            done[name] = import_graph(repository, name, named.foreign, *named.options)
    return done


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


@pytest.mark.parametrize("name", IMPORTED)
def test_it_is_imported_and_verified(repository: Path, imports: dict[str, Finished], name: str) -> None:
    assert imports[name].code == 0, imports[name].err
    verified = statewise("verify", repository / name / "1")
    assert verified.code == 0, verified.out + verified.err


@pytest.mark.parametrize("name", GRAPHS)
def test_predict_and_sessions_give_the_numbers_of_the_file(client: Client, name: str) -> None:
    model = served(client)[name]
    assert model.status == "ready", model.failure
    expected = GRAPHS[name].alone()
    np.testing.assert_allclose(client.predict(name, DATA), expected, atol=1e-5)
    np.testing.assert_allclose(stepped(client, name, DATA), expected, atol=1e-5)
