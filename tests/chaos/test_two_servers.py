"""Lets one server take sessions over from another that stands still, and writes again later."""

from contextlib import suppress

import numpy as np
import pytest
from tests.client.relay import Relay
from tests.client.samples import sequences
from tests.helpers.server_process import ServerProcesses
from tests.service.stores.redis_server import RedisServer

from statewise.client import Client, SessionMoved

pytestmark = pytest.mark.long

X = sequences(40, seed=5)[0]


def test_a_server_that_slept_gets_nothing_in(servers: ServerProcesses, redis: RedisServer) -> None:
    stale, taker = (servers.start(store=redis.url, store_prefix="chaos:") for _ in range(2))
    with Client(stale.address) as before, Client(taker.address) as after:
        whole = after.predict("steps", X)
        left = before.session("steps", id="moves")
        left.step(X[:10])
        left.fork(id="stays")  # from here on the store has both
        stale.pause()
        session = after.resume("moves")
        np.testing.assert_array_equal(session.step(X[10:20]), whole[10:20])
        stale.go_on()
        with suppress(SessionMoved):
            while True:  # until its next checkpoint it does not know
                left.step(X[0])
        with pytest.raises(SessionMoved):
            left.step(X[0])
        np.testing.assert_array_equal(session.step(X[20:30]), whole[20:30])
        assert before.resume("stays").position == 10
    assert taker.stop() == 0
    with Client(stale.address) as client:
        session = client.resume("moves")
        assert session.position == 30
        np.testing.assert_array_equal(session.step(X[30:]), whole[30:])


def test_new_handles_do_not_pass_for_a_claim(servers: ServerProcesses, redis: RedisServer) -> None:
    stale, taker = (servers.start(store=redis.url, checkpoint_s=1000) for _ in range(2))
    relay = Relay(stale.address)
    with Client(relay.address) as before, Client(taker.address) as after:
        whole = after.predict("steps", X)
        left, other = (before.session("steps", id=name) for name in ("moves", "other"))
        left.step(X[:10])
        left.fork().close()  # the store has it at 10
        for step in range(3):  # each time the session gets another handle, which no store knows
            relay.cut()
            left.step(X[step])
        session = after.resume("moves")
        np.testing.assert_array_equal(session.step(X[10:20]), whole[10:20])
        session.fork().close()  # the store has it at 20
        other.fork().close()  # the stale server writes, too
        with pytest.raises(SessionMoved):
            left.step(X[0])
        taker.kill()
    relay.close()
    with Client(servers.start(store=redis.url).address) as client:
        session = client.resume("moves")
        assert session.position == 20
        np.testing.assert_array_equal(session.step(X[20:]), whole[20:])


def test_resumed_at_a_server_that_lost_it_a_session_is_where_it_is(
    servers: ServerProcesses, redis: RedisServer
) -> None:
    stale, owner = (servers.start(store=redis.url) for _ in range(2))
    with Client(stale.address) as before, Client(owner.address) as after:
        whole = after.predict("steps", X)
        left = before.session("steps", id="moves")
        left.step(X[:10])
        left.fork().close()  # the store has it at 10
        session = after.resume("moves")
        session.step(X[10:20])
        session.fork().close()  # the store has it at 20
        session = before.resume("moves")
        assert session.position == 20
        np.testing.assert_array_equal(session.step(X[20:]), whole[20:])
