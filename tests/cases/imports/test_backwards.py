"""Serves graphs that read their sequence from its end: `predict` is right, and sessions are refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cases.foreign import import_graph, publish, served
from tests.cli.command import Finished, Server, statewise
from tests.export.foreign_graphs import HIDDEN, ForeignGraph, lstm_with_state

from statewise.client import Client, NotStreamable

pytestmark = pytest.mark.long

DATA = np.random.default_rng(2).standard_normal((12, 3)).astype(np.float32)
BY_HAND = """
[[inputs]]
name = "x"
axes = ["time", "batch", 3]
[[outputs]]
name = "y"
axes = ["time", "batch", {width}]
[[state]]
input = "h0"
output = "hn"
axes = [{directions}, "batch", 8]
[[state]]
input = "c0"
output = "cn"
axes = [{directions}, "batch", 8]
"""
GRAPHS: dict[str, tuple[ForeignGraph, int]] = {
    "bidirectional": (lstm_with_state("bidirectional"), 2),
    "reverse": (lstm_with_state("reverse"), 1),
    "flipped": (lstm_with_state("forward", flipped=True), 1),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backwards") / "models"


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, Finished]:
    """What the imports said; the same graphs are published by hand."""
    done = {}
    for name, (foreign, directions) in GRAPHS.items():
        toml = BY_HAND.format(width=directions * HIDDEN, directions=directions)
        publish(repository, f"{name}-by-hand", foreign, toml)
        done[name] = import_graph(repository, f"{name}-imported", foreign)
    return done


@pytest.fixture(scope="module")
def client(repository: Path, imports: dict[str, Finished]) -> Iterator[Client]:
    with Server(repository) as server, Client(server.target) as client:
        yield client


@pytest.mark.parametrize("name", GRAPHS)
def test_it_is_imported_for_predict_and_says_so(
    repository: Path, imports: dict[str, Finished], name: str
) -> None:
    assert imports[name].code == 0, imports[name].err
    assert "the model is Predict-only, without sessions" in imports[name].err
    verified = statewise("verify", repository / f"{name}-imported" / "1")
    assert verified.code == 0, verified.out + verified.err


@pytest.mark.parametrize("way", ["imported", "by-hand"])
@pytest.mark.parametrize("name", GRAPHS)
def test_predict_gives_the_numbers_of_the_file_and_sessions_are_refused(
    client: Client, name: str, way: str
) -> None:
    foreign, directions = GRAPHS[name]
    model = served(client)[f"{name}-{way}"]
    assert model.status == "ready", model.failure
    zeros = np.zeros((directions, 1, HIDDEN), np.float32)
    expected = foreign.run({"x": DATA[:, None], "h0": zeros, "c0": zeros})["y"][:, 0]
    np.testing.assert_allclose(client.predict(model.name, DATA), expected, atol=1e-5)
    with pytest.raises(NotStreamable), client.session(model.name) as session:
        session.step(DATA[:5])
