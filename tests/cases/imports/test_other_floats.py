"""Serves LSTMs in float16 and float32, their state inside or outside; those in float64 are refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.cases.foreign import import_graph, served, stepped
from tests.cli.command import Finished, Server, statewise
from tests.export.foreign_graphs import HIDDEN, ForeignGraph, constant, lstm_weights, make, tensor
from tests.helpers.arrays import Array

from statewise.client import Client

pytestmark = pytest.mark.long

TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
TOLERANCES = {"float16": 2e-3, "float32": 1e-5}
WAYS = {"explicit": (), "exposed": ("--expose-state",)}
NAMES = [f"{dtype}-{way}" for dtype in TOLERANCES for way in WAYS]


def lstm(dtype: str, way: str) -> ForeignGraph:
    """x [T, B, 3]; explicit: with its states as inputs and outputs."""
    kind = TYPES[dtype]
    explicit = way == "explicit"
    states = ["h0", "c0"] if explicit else []
    shape = [1, "B", HIDDEN]
    nodes = [
        helper.make_node(
            "LSTM",
            ["x", "W", "R", "b", *(["", *states] if explicit else [])],
            ["Y", "hn", "cn"] if explicit else ["Y"],
            hidden_size=HIDDEN,
            name="lstm",
        ),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", ["T", "B", 3], kind), *(tensor(name, shape, kind) for name in states)],
        [
            tensor("y", ["T", "B", HIDDEN], kind),
            *(tensor(name, shape, kind) for name in ("hn", "cn") if explicit),
        ],
        [
            *(
                constant(entry.name, values=numpy_helper.to_array(entry).astype(dtype))
                for entry in lstm_weights()
            ),
            constant("one", values=np.array([1])),
        ],
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("floats") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said."""
    return {
        f"{dtype}-{way}": import_graph(repository, f"{dtype}-{way}", lstm(dtype, way), *options)
        for dtype in TYPES
        for way, options in WAYS.items()
    }


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


@pytest.mark.parametrize("way", WAYS)
def test_what_onnxruntime_cannot_run_is_refused_with_the_type_as_the_reason(
    imports: dict[str, Finished], way: str
) -> None:
    assert "does not support double" in imports[f"float64-{way}"].complaint


@pytest.mark.parametrize("name", NAMES)
def test_it_is_imported_and_verified(repository: Path, imports: dict[str, Finished], name: str) -> None:
    assert imports[name].code == 0, imports[name].err
    verified = statewise("verify", repository / name / "1")
    assert verified.code == 0, verified.out + verified.err


@pytest.mark.parametrize("name", NAMES)
def test_predict_and_sessions_give_the_numbers_of_the_file(client: Client, name: str) -> None:
    dtype, _, way = name.partition("-")
    model = served(client)[name]
    assert model.status == "ready", model.failure
    data = np.random.default_rng(2).standard_normal((9, 3)).astype(dtype)
    feed: dict[str, Array] = {"x": data[:, None]}
    if way == "explicit":
        feed |= {state: np.zeros((1, 1, HIDDEN), dtype) for state in ("h0", "c0")}
    expected = lstm(dtype, way).run(feed)["y"][:, 0]
    for found in (client.predict(name, data), stepped(client, name, data)):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, atol=TOLERANCES[dtype])
