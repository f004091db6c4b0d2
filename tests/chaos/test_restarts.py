"""Ends servers, and lets programs that were started anew go on with the sessions of earlier ones."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.client.relay import Relay
from tests.client.samples import sequences, wait_for_positions
from tests.helpers.server_process import ServerProcesses

from statewise.client import Client, Session, SessionMoved, SessionNotFound

pytestmark = pytest.mark.long

SELDOM_S = 1000.0
"""Between two checkpoints: nothing is stored unless a reply waits for it."""
X = sequences(9, seed=3)[0]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store in SQLite."""
    return f"sqlite:{tmp_path / 'sessions.db'}"


def test_a_program_that_is_started_anew_finds_sessions_where_they_were_left(
    servers: ServerProcesses, store: str
) -> None:
    server = servers.start(store=store, checkpoint_s=SELDOM_S)
    with Client(server.address) as client:
        whole = client.predict("steps", X)
        session = client.session("steps", id="left")
        np.testing.assert_array_equal(session.step(X[:5]), whole[:5])
        talking = client.session("chatter", id="talks")
        said = list(talking.generate(steps=6, seed=4, text=False))
    assert server.stop() == 0
    server = servers.start(store=store, checkpoint_s=SELDOM_S)
    with Client(server.address) as client:
        session = client.resume("left")
        assert (session.position, session.durable_position) == (5, 5)
        np.testing.assert_array_equal(session.step(X[5:]), whole[5:])
        said += client.resume("talks").generate(steps=6, seed=4, text=False)
        alone = client.session("chatter", id="alone")
        assert said == list(alone.generate(steps=12, seed=4, text=False))
    assert server.stop() == 0


def test_of_those_who_resume_a_session_at_once_one_has_it(servers: ServerProcesses, store: str) -> None:
    server = servers.start(store=store)
    with Client(server.address) as client:
        whole = client.predict("steps", X)
        client.session("steps", id="shared").step(X[:5])
    assert server.stop() == 0
    server = servers.start(store=store, checkpoint_s=SELDOM_S)
    with Client(server.address) as client, ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(client.resume, ["shared"] * 8))
        client.session("steps").fork()  # the store has said to whom the session belongs
        outputs = []
        for session in sessions:
            with suppress(SessionMoved):
                outputs.append(session.step(X[5:]))
    np.testing.assert_array_equal(np.concatenate(outputs), whole[5:])


def rewind(session: Session) -> Session:
    session.rewind()
    return session


@pytest.mark.parametrize(
    ("act", "position"),
    [(rewind, 3), (lambda session: session.fork(id="copy"), 5)],
    ids=["rewind", "fork"],
)
def test_what_was_answered_stays_so(
    servers: ServerProcesses, store: str, act: Callable[[Session], Session], position: int
) -> None:
    server = servers.start(store=store, checkpoint_s=SELDOM_S)
    with Client(server.address) as client:
        whole = client.predict("steps", X)
        session = client.session("steps", id="kept")
        session.step(X[:3])
        session.step(X[3:5])
        session_id = act(session).id
        server.kill()
    server = servers.start(store=store)
    with Client(server.address) as client:
        session = client.resume(session_id)
        assert session.position == position
        np.testing.assert_array_equal(session.step(X[position:]), whole[position:])


def test_a_session_goes_on_after_what_was_stored_is_undone(servers: ServerProcesses, store: str) -> None:
    server = servers.start(store=store, durability="reply")
    with Client(server.address) as client:
        whole = client.predict("steps", X)
        session = client.session("steps", id="undone")
        session.step(X[:3])
        session.step(X[:4])
        session.rewind()
        assert session.durable_position == 3
        server.kill()
        server = servers.start(store=store, listen=server.address)
        np.testing.assert_array_equal(session.step(X[3:6]), whole[3:6])
        server.kill()
        servers.start(store=store, listen=server.address)
        np.testing.assert_array_equal(session.step(X[6:]), whole[6:])


def test_a_rewind_whose_reply_was_lost_is_done_once(servers: ServerProcesses, store: str) -> None:
    server = servers.start(store=store, durability="reply")
    relay = Relay(server.address)
    with Client(relay.address) as client, Client(server.address) as other, ThreadPoolExecutor(1) as pool:
        whole = client.predict("steps", X)
        session = client.session("steps", id="undone")
        session.step(X[:3])
        session.step(X[:4])
        relay.hold_replies()
        rewinding = pool.submit(session.rewind)
        wait_for_positions(other, {"undone": 3})
        other.session("steps").fork()  # the store has it at 3
        server.kill()
        servers.start(store=store, listen=server.address)
        relay.cut()
        rewinding.result()
        np.testing.assert_array_equal(session.step(X[3:]), whole[3:])
    relay.close()


def test_a_session_that_was_closed_is_not_revived(servers: ServerProcesses, store: str) -> None:
    server = servers.start(store=store)
    with Client(server.address) as client:
        session = client.session("steps", id="closed")
        session.step(X)
        session.fork(id="copy")  # from here on the store has both
        session.close()
        server.kill()
    server = servers.start(store=store)
    with Client(server.address) as client:
        with pytest.raises(SessionNotFound):
            client.resume("closed")
        assert client.resume("copy").position == len(X)


def test_who_resumed_last_owns_a_session_after_a_kill_too(servers: ServerProcesses, store: str) -> None:
    server = servers.start(store=store, checkpoint_s=SELDOM_S)
    with Client(server.address) as first, Client(server.address) as client:
        whole = client.predict("steps", X)
        first.session("steps", id="taken").step(X[:4])
        session = client.resume("taken")
        server.kill()
        server = servers.start(store=store, listen=server.address)
        np.testing.assert_array_equal(session.step(X[4:]), whole[4:])


def test_a_restored_session_is_durable(servers: ServerProcesses, store: str) -> None:
    server = servers.start(store=store, checkpoint_s=SELDOM_S)
    with Client(server.address) as client:
        session = client.session("steps")
        whole = client.predict("steps", X)
        session.step(X[:4])
        again = client.restore(session.snapshot(), id="restored")
        server.kill()
        server = servers.start(store=store, listen=server.address)
        np.testing.assert_array_equal(again.step(X[4:]), whole[4:])
