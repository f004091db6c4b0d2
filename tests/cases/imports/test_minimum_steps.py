"""Serves graphs that need some number of steps: answers are right, refused, or failed with the reason."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.cases.foreign import publish, served
from tests.cli.command import Server
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    ForeignGraph,
    constant,
    make,
    tensor,
)

from statewise.client import Client, InvalidInput

pytestmark = pytest.mark.long

BY_HAND = """
[[inputs]]
name = "x"
axes = ["batch", "time", 3]
[[outputs]]
name = "p"
axes = ["batch", 4]
"""
LENGTHS = (1, 4, 5, 12, 40)


def behind(front: list[onnx.NodeProto], features: int, constants: list[onnx.TensorProto]) -> ForeignGraph:
    """x [B, T, 3] through a front end, seq [S, B, F], to an LSTM and the classes after its last step."""
    nodes = [
        *front,
        helper.make_node("LSTM", ["seq", "W", "R", "b"], ["", "hn"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["hn", "zero"], ["h"]),
        helper.make_node("MatMul", ["h", "V"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"], axis=-1),
    ]
    return make(
        nodes,
        [tensor("x", ["batch", "time", INPUTS])],
        [tensor("p", ["batch", 4])],
        [
            *constants,
            constant("W", 1, 4 * HIDDEN, features),
            constant("R", 1, 4 * HIDDEN, HIDDEN),
            constant("b", 1, 8 * HIDDEN),
            constant("V", HIDDEN, 4),
            constant("zero", values=np.array([0])),
        ],
    )


def convolution(size: int) -> ForeignGraph:
    return behind(
        [
            helper.make_node("Transpose", ["x"], ["xc"], perm=[0, 2, 1]),
            helper.make_node("Conv", ["xc", "K"], ["conv"], kernel_shape=[size]),
            helper.make_node("Relu", ["conv"], ["act"]),
            helper.make_node("Transpose", ["act"], ["seq"], perm=[2, 0, 1]),
        ],
        6,
        [constant("K", 6, INPUTS, size)],
    )


def pooling() -> ForeignGraph:
    return behind(
        [
            helper.make_node("Transpose", ["x"], ["xc"], perm=[0, 2, 1]),
            helper.make_node("MaxPool", ["xc"], ["pooled"], kernel_shape=[2], strides=[2]),
            helper.make_node("Transpose", ["pooled"], ["seq"], perm=[2, 0, 1]),
        ],
        INPUTS,
        [],
    )


GRAPHS = {2: convolution(2), 5: convolution(5), 16: convolution(16)}
"""Convolutions by their least number of steps; the server's own trials have nine at most."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server of every graph as it is, and with its least number of steps declared."""
    repository = tmp_path_factory.mktemp("minimum_steps")
    publish(repository, "pool", pooling(), BY_HAND)
    for size, foreign in GRAPHS.items():
        publish(repository, f"conv{size}", foreign, BY_HAND)
        publish(repository, f"conv{size}-declared", foreign, f"least_steps = {size}\n{BY_HAND}")
    with Server(repository) as server, Client(server.target) as client:
        yield client


def test_without_a_declaration_the_failure_names_it(client: Client) -> None:
    models = served(client)
    for size in GRAPHS:
        assert models[f"conv{size}"].status == "failed"
        assert "declare least_steps in its model.toml" in models[f"conv{size}"].failure


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("size", GRAPHS)
def test_what_the_file_cannot_run_is_refused_and_the_rest_is_right(
    client: Client, size: int, steps: int
) -> None:
    name = f"conv{size}-declared"
    assert served(client)[name].status == "ready", served(client)[name].failure
    x = np.random.default_rng(steps).standard_normal((steps, INPUTS)).astype(np.float32)
    if steps < size:
        with pytest.raises(InvalidInput, match=f"at least {size} time steps .*; got {steps}"):
            client.predict(name, x)
    else:
        expected = GRAPHS[size].run({"x": x[None]})["p"][0]
        np.testing.assert_allclose(client.predict(name, x), expected, atol=1e-5)


@pytest.mark.parametrize("steps", LENGTHS)
def test_a_graph_that_runs_any_number_of_steps_needs_no_declaration(client: Client, steps: int) -> None:
    x = np.random.default_rng(steps).standard_normal((steps, INPUTS)).astype(np.float32)
    expected = pooling().run({"x": x[None]})["p"][0]
    np.testing.assert_allclose(client.predict("pool", x), expected, atol=1e-5)


def test_a_row_that_is_too_short_is_named(client: Client) -> None:
    random = np.random.default_rng(9)
    rows = [random.standard_normal((steps, INPUTS)).astype(np.float32) for steps in (12, 1, 30)]
    with pytest.raises(InvalidInput, match="got 1 at index 1"):
        client.predict("conv5-declared", rows)
    found = list(client.score("conv5-declared", rows))
    assert [isinstance(scored.error, InvalidInput) for scored in found] == [False, True, False]
    for row in (0, 2):
        expected = GRAPHS[5].run({"x": rows[row][None]})["p"][0]
        np.testing.assert_allclose(found[row].outputs, expected, atol=1e-5)
