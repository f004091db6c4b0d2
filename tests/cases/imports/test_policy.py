"""Serves a policy as ML-Agents writes it: an input that nothing reads, and constants among the outputs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.cases.foreign import import_graph, one_step, publish, served
from tests.cli.command import Finished, Server, statewise
from tests.export.foreign_graphs import ForeignGraph, constant, make, tensor
from tests.helpers.arrays import Array

from statewise.client import Client

pytestmark = pytest.mark.long

MEMORY = 16
DATA = np.random.default_rng(2).standard_normal((10, 8)).astype(np.float32)
STATE = """
[[state]]
input = "recurrent_in"
output = "recurrent_out"
"""
WHOLE = f"""
[[inputs]]
name = "obs_0"
axes = ["batch", 8]
[[inputs]]
name = "action_masks"
axes = ["batch", 2]
default = 1
[[outputs]]
name = "continuous_actions"
axes = ["batch", 2]
{STATE}axes = ["batch", 1, 16]
"""
BY_HAND = {
    "whole": WHOLE,
    "output-and-state": f'[[outputs]]\nname = "continuous_actions"\n{STATE}',
    "state-alone": STATE,
}


def policy(*, masks: bool = True) -> ForeignGraph:
    """An LSTM whose memory [B, 1, 16] is h beside c; its actions depend on the observations alone."""
    half = MEMORY // 2
    nodes = [
        helper.make_node("Transpose", ["recurrent_in"], ["mem"], perm=[1, 0, 2]),
        helper.make_node("Split", ["mem"], ["h", "c"], axis=2),
        helper.make_node("Unsqueeze", ["obs_0", "zero"], ["seq"]),
        helper.make_node(
            "LSTM", ["seq", "W", "R", "b", "", "h", "c"], ["", "h2", "c2"], hidden_size=half, name="lstm"
        ),
        helper.make_node("Concat", ["h2", "c2"], ["mem2"], axis=2),
        helper.make_node("Transpose", ["mem2"], ["recurrent_out"], perm=[1, 0, 2]),
        helper.make_node("Squeeze", ["h2", "zero"], ["last"]),
        helper.make_node("MatMul", ["last", "V"], ["continuous_actions"]),
        helper.make_node("Identity", ["vn"], ["version_number"]),
        helper.make_node("Identity", ["ms"], ["memory_size"]),
    ]
    return make(
        nodes,
        [
            tensor("obs_0", ["batch", 8]),
            *([tensor("action_masks", ["batch", 2])] if masks else []),
            tensor("recurrent_in", ["batch", 1, MEMORY]),
        ],
        [
            tensor("version_number", [1]),
            tensor("memory_size", [1]),
            tensor("continuous_actions", ["batch", 2]),
            tensor("recurrent_out", ["batch", 1, MEMORY]),
        ],
        [
            constant("W", 1, 4 * half, 8),
            constant("R", 1, 4 * half, half),
            constant("b", 1, 8 * half),
            constant("V", half, 2),
            constant("zero", values=np.array([0])),
            constant("vn", values=np.array([3], np.float32)),
            constant("ms", values=np.array([MEMORY], np.float32)),
        ],
    )


IMPORTED = {
    "plain": (policy(), ()),
    "constant": (policy(), ("--constant", "action_masks=1")),
    "without-masks": (policy(masks=False), ()),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policy") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said; the same graph is published by hand."""
    for name, toml in BY_HAND.items():
        publish(repository, name, policy(), toml)
    return {
        name: import_graph(repository, name, foreign, *options)
        for name, (foreign, options) in IMPORTED.items()
    }


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


def actions(found: object) -> Array:
    return np.asarray(found["continuous_actions"] if isinstance(found, dict) else found)


@pytest.mark.parametrize("name", IMPORTED)
def test_it_is_imported_and_verified(repository: Path, imports: dict[str, Finished], name: str) -> None:
    assert imports[name].code == 0, imports[name].err
    verified = statewise("verify", repository / name / "1")
    assert verified.code == 0, verified.out + verified.err


def test_what_is_left_out_is_told(imports: dict[str, Finished]) -> None:
    assert "input action_masks is left out: no output depends on it\n" in imports["plain"].err
    for constant_output in ("version_number", "memory_size"):
        assert f"output {constant_output} is left out: it depends on no input\n" in imports["plain"].err


@pytest.mark.parametrize("name", [*IMPORTED, *BY_HAND])
def test_sessions_and_predict_give_the_actions_of_the_file(client: Client, name: str) -> None:
    model = served(client)[name]
    assert model.status == "ready", model.failure
    expected = one_step(
        policy(masks=False),
        DATA,
        {"recurrent_in": np.zeros((1, 1, MEMORY), np.float32)},
        {"recurrent_in": "recurrent_out"},
        x="obs_0",
        y="continuous_actions",
    )
    required = [entry.name for entry in model.inputs if entry.default is None]
    masks = {"action_masks": np.ones(2, np.float32)} if "action_masks" in required else {}
    with client.session(name) as session:
        found = np.stack([actions(session.step({"obs_0": sample, **masks})) for sample in DATA])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    batch = {"obs_0": np.stack([DATA, DATA[::-1]])}
    batch |= {key: np.ones((2, len(DATA), 2), np.float32) for key in masks}
    np.testing.assert_allclose(actions(client.predict(name, batch))[0], expected, atol=1e-5)
