"""Steps a state of one number a row, [batch]: alone, in chunks, in groups and in whole sequences."""

from collections.abc import Iterator

import numpy as np
import pytest
from onnx import helper
from tests.cases.foreign import publish
from tests.cli.command import Server
from tests.export.foreign_graphs import make, tensor

from statewise.client import Client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server of `sum`, which answers minus the sum of its steps."""
    repository = tmp_path_factory.mktemp("row_state")
    foreign = make(
        [
            helper.make_node("Add", ["x", "total"], ["total_out"]),
            helper.make_node("Neg", ["total_out"], ["y"]),
        ],
        [tensor("x", ["batch"]), tensor("total", ["batch"])],
        [tensor("y", ["batch"]), tensor("total_out", ["batch"])],
    )
    publish(repository, "sum", foreign, '[[state]]\ninput = "total"\noutput = "total_out"\n')
    with Server(repository) as server, Client(server.target) as client:
        yield client


def test_steps_alone_and_in_chunks_in_turn(client: Client) -> None:
    with client.session("sum") as session:
        assert session.step(np.float32(2)) == -2
        assert session.step(np.ones(4, np.float32)).tolist() == [-3, -4, -5, -6]
        assert session.step(np.float32(1)) == -7


def test_groups_and_whole_sequences(client: Client) -> None:
    with client.sessions("sum", count=2) as group:
        assert group.step(np.array([2, 3], np.float32)).tolist() == [-2, -3]
        assert group.step(np.array([1, 1], np.float32)).tolist() == [-3, -4]
    rows = np.array([[2, 1, 1], [3, 1, 1]], np.float32)
    assert client.predict("sum", rows).tolist() == [[-2, -3, -4], [-3, -4, -5]]
