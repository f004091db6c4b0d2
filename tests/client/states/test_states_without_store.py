"""Writes states and goes to checkpoints while the store is away: what raised is completed when it is back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.sessions.test_rewinds_without_store import SHORT_S, insisting
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.client import Unavailable


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server, which outlives the servers of a test that asks for it first."""
    with redis_server() as server:
        yield server


@pytest.mark.parametrize("checkpoint", [True, False])
def test_what_raised_is_completed_by_the_next_operation(
    redis: RedisServer,
    clients: Clients,
    repository: Path,
    small_models: SmallModels,
    x: Floats,
    checkpoint: bool,
) -> None:
    whole = small_models.find("steps").run(x)[0]
    address = clients.start(repository, store=redis.url)
    session = clients.connect(address, reconnect_s=SHORT_S).session("steps", id="a")
    session.step(x[:4])
    session.checkpoint("before")
    state = session.state()
    session.step(-x)

    def change() -> None:
        if checkpoint:
            session.rewind(to="before")
        else:
            session.set_state(state, position=4)

    redis.kill()
    for _ in range(2):
        with pytest.raises(Unavailable):
            change()
    redis.start()
    np.testing.assert_array_equal(insisting(lambda: session.step(x[4:])), whole[4:])
    assert session.position == len(x)
    assert insisting(lambda: clients.connect(address).resume("a")).position == len(x)
