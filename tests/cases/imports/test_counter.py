"""Serves cells with a scalar counter beside their state: each session counts its own steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.cases.foreign import import_graph, publish, served, stepped
from tests.cli.command import Finished, Server
from tests.export.foreign_graphs import FLOAT, HIDDEN, INT64, ForeignGraph, constant, make, tensor
from tests.helpers.arrays import Array

from statewise.client import Client
from statewise.export import read_package

pytestmark = pytest.mark.long

DATA = np.random.default_rng(2).standard_normal((8, 3)).astype(np.float32)
LEADS: dict[str, list[Any]] = {"one-row": [1], "no-batch": [], "free-batch": ["N"]}
"""The axes in front of features and units; the counter has none."""
WAYS = {
    "plain": (),
    "declared": ("--state", "pos=pos_out"),
    "both": ("--state", "pos=pos_out", "--state", "h=h_out"),
}
NAMES = [f"{lead}-{way}" for lead in LEADS for way in [*WAYS, "by-hand"]]


def counting(lead: list[Any]) -> ForeignGraph:
    """h' = tanh(x W + h R), pos' = pos + 1, y = h' V pos'."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"]),
        helper.make_node("MatMul", ["h", "R"], ["r"]),
        helper.make_node("Add", ["a", "r"], ["s"]),
        helper.make_node("Tanh", ["s"], ["h_out"]),
        helper.make_node("Add", ["pos", "one"], ["pos_out"]),
        helper.make_node("Cast", ["pos_out"], ["p"], to=FLOAT),
        helper.make_node("MatMul", ["h_out", "V"], ["o"]),
        helper.make_node("Mul", ["o", "p"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", [*lead, 3]), tensor("h", [*lead, HIDDEN]), tensor("pos", [], INT64)],
        [tensor("y", [*lead, 2]), tensor("h_out", [*lead, HIDDEN]), tensor("pos_out", [], INT64)],
        [
            *(constant("W", 3, HIDDEN), constant("R", HIDDEN, HIDDEN), constant("V", HIDDEN, 2)),
            constant("one", values=np.array(1)),
        ],
    )


def by_hand(lead: list[Any]) -> str:
    rows = '"batch", ' if lead else ""
    return (
        f'[[inputs]]\nname = "x"\naxes = [{rows}3]\n[[outputs]]\nname = "y"\naxes = [{rows}2]\n'
        f'[[state]]\ninput = "h"\noutput = "h_out"\naxes = [{rows}8]\n'
        '[[state]]\ninput = "pos"\noutput = "pos_out"\naxes = []\n'
    )


def alone(lead: list[Any]) -> Array:
    """Outputs [8, 2] of the file by itself."""
    rows = [1] * len(lead)
    state: dict[str, Array] = {"h": np.zeros((*rows, HIDDEN), np.float32), "pos": np.array(0)}
    outputs = []
    for sample in DATA:
        found = counting(lead).run({"x": sample.reshape(*rows, 3), **state})
        state = {"h": found["h_out"], "pos": found["pos_out"]}
        outputs.append(found["y"].reshape(2))
    return np.stack(outputs)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("counter") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said; the same graphs are published by hand."""
    done = {}
    for name, lead in LEADS.items():
        publish(repository, f"{name}-by-hand", counting(lead), by_hand(lead))
        for way, options in WAYS.items():
            done[f"{name}-{way}"] = import_graph(repository, f"{name}-{way}", counting(lead), *options)
    return done


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


@pytest.mark.parametrize("name", [f"{lead}-{way}" for lead in LEADS for way in WAYS])
def test_state_and_counter_are_the_states_and_y_alone_the_output(
    repository: Path, imports: dict[str, Finished], name: str
) -> None:
    assert imports[name].code == 0, imports[name].err
    spec = read_package(repository / name / "1").spec
    assert sorted(part.name for pair in spec.state for part in pair.parts) == ["h", "pos"]
    assert [entry.name for entry in spec.outputs] == ["y"]


@pytest.mark.parametrize("name", NAMES)
def test_sessions_count_their_own_steps(client: Client, name: str) -> None:
    model = served(client)[name]
    assert model.status == "ready", model.failure
    expected = alone(LEADS[name.rpartition("-")[0] if not name.endswith("by-hand") else name[:-8]])
    np.testing.assert_allclose(stepped(client, name, DATA), expected, atol=1e-5)
    with client.sessions(name, count=2) as group:
        group.step(DATA[0][None], index=[0])
        found = group.step(np.stack([DATA[1], DATA[0]]))
    np.testing.assert_allclose(found, np.stack([expected[1], expected[0]]), atol=1e-5)
