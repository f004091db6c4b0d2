"""Rewinds sessions while the store is away: what raised may have happened, and repeated happens once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.helpers.arrays import Floats
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.client import PositionMismatch, Timeout, Unavailable

SHORT_S = 0.2


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server, which outlives the servers of a test that asks for it first."""
    with redis_server() as server:
        yield server


def insisting(call: Any) -> Any:
    """Repeats what fails while the server has not found its store again."""
    while True:
        try:
            return call()
        except Unavailable:
            continue


def test_a_rewind_that_raised_may_be_repeated(
    redis: RedisServer, clients: Clients, repository: Path, x: Floats
) -> None:
    address = clients.start(repository, store=redis.url, durability="reply")
    client = clients.connect(address)
    whole = client.predict("steps", x)
    session = clients.connect(address, reconnect_s=SHORT_S).session("steps", id="a")
    session.step(x[:2])
    session.step(x[2:5])
    assert session.durable_position == 5  # the client has forgotten the inputs
    redis.kill()
    for _ in range(2):
        with pytest.raises(Unavailable):
            session.rewind()
    redis.start()
    insisting(session.rewind)
    assert session.position == 2
    np.testing.assert_array_equal(insisting(lambda: session.step(x[2:])), whole[2:])
    assert insisting(lambda: client.resume("a")).position == len(x)


def test_a_step_after_a_rewind_that_raised_tells_what_became_of_it(
    redis: RedisServer, clients: Clients, repository: Path, x: Floats
) -> None:
    address = clients.start(repository, store=redis.url, durability="reply")
    client = clients.connect(address)
    whole = client.predict("steps", x)
    session = clients.connect(address, reconnect_s=SHORT_S).session("steps", id="a")
    session.step(x[:2])
    session.step(x[2:5])
    redis.kill()
    with pytest.raises(Unavailable):
        session.rewind()
    redis.start()
    with pytest.raises(PositionMismatch, match="was applied"):
        insisting(lambda: session.step(x[5:]))
    assert session.position == 2
    np.testing.assert_array_equal(insisting(lambda: session.step(x[2:])), whole[2:])


def test_a_rewind_that_raised_is_taken_back_where_the_client_has_the_inputs(
    redis: RedisServer, clients: Clients, repository: Path, x: Floats
) -> None:
    address = clients.start(repository, store=redis.url, checkpoint_s=1000.0)
    client = clients.connect(address)
    whole = client.predict("steps", x)
    session = clients.connect(address, reconnect_s=SHORT_S).session("steps", id="a")
    session.step(x[:2])
    session.step(x[2:5])
    assert session.durable_position == 0
    redis.kill()
    with pytest.raises(Unavailable):
        session.rewind()
    np.testing.assert_array_equal(session.step(x[5:9]), whole[5:9])  # steps need no store
    assert session.position == 9
    redis.start()
    insisting(session.rewind)
    assert session.position == 5
    np.testing.assert_array_equal(session.step(x[5:]), whole[5:])


def test_a_rewind_that_nobody_waits_for_is_done_once(
    redis: RedisServer, clients: Clients, repository: Path, x: Floats
) -> None:
    client = clients.serve(repository, store=redis.url, durability="reply")
    whole = client.predict("steps", x)
    session = client.session("steps", id="a")
    session.step(x[:2])
    session.step(x[2:5])
    redis.pause()
    with pytest.raises(Timeout):
        session.rewind(timeout=SHORT_S)
    redis.resume()
    np.testing.assert_array_equal(session.step(x[2:]), whole[2:])
