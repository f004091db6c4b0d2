"""Lets one server take sessions over from another that stands still, and writes again later."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.client.relay import Relay
from tests.client.samples import sequences
from tests.helpers.arrays import Floats
from tests.helpers.server_process import ServerProcesses
from tests.service.stores.redis_server import RedisServer

from statewise.client import Client, Session, SessionMoved

pytestmark = pytest.mark.long

X = sequences(40, seed=5)[0]
LONG = sequences(20_000, seed=5)[0]
MOVING = 6


def step_until_moved(session: Session, whole: Floats) -> int:
    """Steps a session until another server has it. Returns how many steps were answered, all correctly."""
    for at, x in enumerate(LONG):
        try:
            output = session.step(x)
        except SessionMoved:
            return at
        np.testing.assert_array_equal(output, whole[at])
    pytest.fail("the server did not learn that another one has the session")


@pytest.mark.parametrize("durability", ["interval", "reply"])
def test_a_server_that_slept_gets_nothing_in(
    servers: ServerProcesses, redis: RedisServer, durability: str
) -> None:
    chosen = {"store": redis.url, "store_prefix": "chaos:", "durability": durability}
    stale, taker = (servers.start(**chosen) for _ in range(2))
    with (
        Client(stale.address) as before,
        Client(taker.address) as after,
        ThreadPoolExecutor(MOVING) as pool,
    ):
        whole = after.predict("steps", LONG)
        left = [before.session("steps", id=f"moves-{number}") for number in range(MOVING)]
        before.session("steps", id="stays").step(X[:10])
        stepping = [pool.submit(step_until_moved, session, whole) for session in left]
        while min(session.durable_position for session in left) < 3:
            pass
        stale.pause()
        sessions = [after.resume(session.id) for session in left]
        taken = [session.position for session in sessions]
        for session, at in zip(sessions, taken, strict=True):
            np.testing.assert_array_equal(session.step(LONG[at : at + 10]), whole[at : at + 10])
        stale.go_on()
        answered = [steps.result() for steps in stepping]
        if durability == "reply":  # what was answered was stored before
            assert all(steps <= at for steps, at in zip(answered, taken, strict=True))
        for session, at in zip(sessions, taken, strict=True):
            np.testing.assert_array_equal(session.step(LONG[at + 10 : at + 20]), whole[at + 10 : at + 20])
            session.fork().close()  # the store has it
        assert before.resume("stays").position == 10
        taker.kill()
    with Client(stale.address) as client:
        for session, at in zip(left, taken, strict=True):
            again = client.resume(session.id)
            assert again.position == at + 20
            np.testing.assert_array_equal(again.step(LONG[at + 20 : at + 30]), whole[at + 20 : at + 30])


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


@pytest.mark.parametrize("durability", ["interval", "reply"])
def test_a_client_that_comes_back_to_a_server_goes_on_with_what_it_did_elsewhere(
    servers: ServerProcesses, redis: RedisServer, durability: str
) -> None:
    one, other = (servers.start(store=redis.url, durability=durability) for _ in range(2))
    relay = Relay(one.address)
    with Client(relay.address) as client:
        whole = client.predict("steps", X)
        session = client.session("steps", id="roams")
        session.step(X[:10])
        relay.lead_to(other.address)
        np.testing.assert_array_equal(session.step(X[10:20]), whole[10:20])
        client.session("steps").fork().close()  # the store has the session at 20
        np.testing.assert_array_equal(session.step(X[20]), whole[20])
        assert session.durable_position >= 20
        other.kill()
        relay.lead_to(one.address)
        np.testing.assert_array_equal(session.step(X[session.position :]), whole[21:])
    relay.close()
