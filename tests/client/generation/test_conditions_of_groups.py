"""Opens groups of sessions, each with a condition of its own."""

from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.generation.oracle import tokens_of
from tests.client.restarts import RestartableServer

from statewise.client import Client, InvalidInput, PartialFailure
from statewise.service.testing import server_in_thread

SOURCES = ("pqr", "s", "ttttt", "rst")


def test_sessions_of_a_group_begin_each_with_its_own(client: Client) -> None:
    count = len(SOURCES)
    expected = []
    for source in SOURCES:
        with client.session("speech", condition=source) as session:
            expected.append(np.stack([session.step(token) for token in (7, 1, 2)]))
    tokens = [tokens_of(source) for source in SOURCES]
    for condition in (list(SOURCES), tokens):
        with client.sessions("speech", count=count, condition=condition) as group:
            outputs = [group.step(np.full(count, token)) for token in (7, 1, 2)]
            np.testing.assert_array_equal(np.stack(outputs, axis=1), np.stack(expected))
    for one_for_all in (SOURCES[0], tokens[0]):
        with client.sessions("speech", count=2, condition=one_for_all) as group:
            np.testing.assert_array_equal(group.step(np.array([7, 7])), [expected[0][0]] * 2)


def test_such_a_group_too_comes_back(generative: Path, clients: Clients) -> None:
    with RestartableServer(generative) as server:
        client = clients.connect(server.address)
        sources = list(SOURCES)
        whole = client.sessions("speech", count=4, condition=sources).step(np.tile([7, 1, 2], (4, 1)))
        group = client.sessions("speech", count=4, condition=sources)
        outputs = [group.step(np.full(4, 7)), group.step(np.full(4, 1))]
        server.restart()
        outputs.append(group.step(np.full(4, 2)))
        np.testing.assert_array_equal(np.stack(outputs, axis=1), whole)


def test_more_conditions_than_a_request_takes(generative: Path, clients: Clients) -> None:
    with server_in_thread(generative, request_rows=3, request_steps=6) as address:
        client = clients.connect(address)
        sources = list(SOURCES) * 2
        with client.sessions("speech", count=8, condition=sources) as group:
            outputs = group.step(np.full(8, 7), timeout=60)
        np.testing.assert_array_equal(outputs[:4], outputs[4:])
        assert len(np.unique(outputs, axis=0)) == 4


def test_a_condition_that_cannot_be_read_leaves_no_session(client: Client) -> None:
    before = len(client.list_sessions())
    with pytest.raises(PartialFailure, match=r"got 'z'") as caught:
        client.sessions("speech", count=3, condition=["pq", "pzq", "r"]).step(np.full(3, 7))
    assert list(caught.value.errors) == [1]
    assert len(client.list_sessions()) == before


@pytest.mark.parametrize(
    ("model", "condition", "message"),
    [
        ("speech", ["p", "q"], "expected one sequence, or 3, one for each session; got a batch of 2"),
        ("letters", "a", "has no encoder"),
    ],
)
def test_conditions_that_do_not_fit_a_group(
    client: Client, model: str, condition: object, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        client.sessions(model, count=3, condition=condition).step(np.zeros(3))
