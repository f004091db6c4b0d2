"""Opens sessions with a durability of their own, on a server whose replies otherwise leave at once."""

from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.helpers.arrays import Floats

from statewise.client import Client, InvalidInput


@pytest.fixture
def client(clients: Clients, repository: Path, tmp_path: Path) -> Client:
    """A client of a server with a store that writes every thousand seconds, unless a reply waits."""
    return clients.serve(repository, store=f"sqlite:{tmp_path / 'sessions.db'}", checkpoint_s=1000.0)


def test_a_session_and_a_group_are_stored_before_their_replies(client: Client, x: Floats) -> None:
    with client.session("steps") as session:
        session.step(x[0])
        assert session.durable_position == 0
    with client.session("steps", durability="reply") as session:
        for end in (1, 2, 5):
            session.step(x[session.position : end])
            assert session.durable_position == end
        with session.fork() as copy:
            copy.step(x[5])
            assert copy.durable_position == 6
    with client.sessions("steps", count=3, durability="reply") as group:
        group.step(x[:3])
        np.testing.assert_array_equal(group.durable_positions, [1, 1, 1])


def test_a_session_keeps_its_durability_until_it_is_resumed_with_another(client: Client, x: Floats) -> None:
    client.session("steps", id="a", durability="reply").step(x[0])
    session = client.resume("a")
    session.step(x[1])
    assert session.durable_position == 2
    session = client.resume("a", durability="interval")
    session.step(x[2])
    assert session.durable_position == 2
    session = client.session("steps", id="a")  # a new holder is stored, and with it what came before
    session.step(x[3])
    assert session.durable_position == 3
    session.close()


@pytest.mark.parametrize("durability", ["never", 2, ["reply"]])
def test_another_durability_is_refused_by_name(client: Client, durability: object) -> None:
    for call in (
        lambda: client.session("steps", durability=durability),  # type: ignore[arg-type]
        lambda: client.sessions("steps", count=1, durability=durability),  # type: ignore[arg-type]
        lambda: client.resume("a", durability=durability),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInput, match='durability: expected None, "interval" or "reply"'):
            call()
