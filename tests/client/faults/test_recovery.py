"""Breaks recoveries off, drains servers and mixes programs up, one event after another."""

import itertools
from typing import Any

import numpy as np
import pytest
from tests.client.faults.sum_server import SumServer
from tests.client.faults.world import World

from statewise.client import InvalidInput, SessionMoved, Unavailable
from statewise.client.requests import OpenOptions, Operate, Plan
from statewise.client.sessions import SessionCore
from statewise.client.stream import Operation
from statewise.v1 import sequence_pb2


def first_operation(plan: Plan[Any]) -> Operation[Any]:
    """Begins a plan; returns the operation that it asks for first."""
    effect = plan.send(None)
    assert isinstance(effect, Operate)
    return effect.operation


def stepped(world: World, session: SessionCore, value: int) -> int:
    pending_call = world.submit(session.step(np.int64(value)))
    world.settle()
    return int(pending_call.future.result(0))


def operations(world: World, session: SessionCore) -> dict[str, Any]:
    return {
        "fork": lambda: session.fork("copy"),
        "snapshot": session.snapshot,
        "rewind": session.rewind,
    }


def kinds(server: SumServer, since: int) -> list[str]:
    return [str(request.WhichOneof("operation")) for request in server.messages[since:]]


def test_a_session_that_is_opened_anew_asks_for_its_durability() -> None:
    world = World(store_kind="none")
    session = world.run(world.core.sessions.open("sum", "a", None, None, OpenOptions(durability="reply")))
    stepped(world, session, 1)
    world.kill()
    stepped(world, session, 2)
    assert kinds(world.server, 0).count("open") == 2
    assert world.server.sessions["a"].durability == sequence_pb2.DURABILITY_REPLY


@pytest.mark.parametrize("name", ["fork", "snapshot", "rewind"])
def test_a_request_waits_for_the_replay_that_was_cut(name: str) -> None:
    world = World(store_kind="none")
    session = world.session()
    for value in (1, 2, 4):
        stepped(world, session, value)
    world.kill()
    pending_call = world.submit(operations(world, session)[name]())
    # Not found, resume, open; the first steps of the replay; then a cut.
    while kinds(world.server, -1) != ["step"]:
        assert world.send() or world.deliver() or world.wait()
    world.cut()
    world.settle()
    pending_call.future.result(0)
    held = world.server.sessions["copy" if name == "fork" else session.remote.id]
    expected = (2, 3) if name == "rewind" else (3, 7)
    assert (held.position, held.total) == expected
    assert stepped(world, session, 8) == expected[1] + 8


def test_a_session_stays_with_the_server_that_answered_it_last() -> None:
    world = World(store_kind="none")
    handles = itertools.count(1)
    world.server = SumServer(handles)
    session, group = world.session(), world.group(2)
    stepped(world, session, 1)
    lone = world.submit(session.step(np.int64(2)))
    many = world.submit(group.step(np.array([1, 2]), None))
    while world.send():
        pass
    # Both are answered by the server that drains, after another session has moved on to its successor.
    world.drain(SumServer(handles))
    other = world.submit(first_operation(world.core.sessions.open("sum", None, None, None)))
    world.settle()
    assert other.future.done()
    assert int(lone.future.result(0)) == 3
    np.testing.assert_array_equal(many.future.result(0), [1, 2])
    assert stepped(world, session, 4) == 7
    many = world.submit(group.step(np.array([4, 8]), None))
    world.settle()
    np.testing.assert_array_equal(many.future.result(0), [5, 10])


def test_a_rewind_that_failed_is_not_applied() -> None:
    world = World(retry_for_s=0.0, store_kind="none")
    session = world.session()
    for value in (1, 2):
        stepped(world, session, value)
    pending_call = world.submit(session.rewind())
    world.send()
    world.cut()
    with pytest.raises(Unavailable):
        pending_call.future.result(0)
    assert session.remote.position == 2
    assert stepped(world, session, 4) == 7
    world.run_operation(session.rewind())
    assert stepped(world, session, 8) == 11


def test_a_state_without_its_predecessor_is_rewound_by_a_replay() -> None:
    world = World()
    session = world.session()
    for value in (1, 2):
        stepped(world, session, value)
    world.store()
    world.kill()
    world.run_operation(session.rewind())
    assert stepped(world, session, 4) == 5


def test_only_the_last_request_can_be_undone_and_once() -> None:
    world = World()
    session = world.session()
    with pytest.raises(InvalidInput, match="expected a step or generation to undo"):
        world.run_operation(session.rewind())
    for value in (1, 2):
        stepped(world, session, value)
    world.run_operation(session.rewind())
    with pytest.raises(InvalidInput, match="expected a step or generation to undo"):
        world.run_operation(session.rewind())
    assert stepped(world, session, 4) == 5


@pytest.mark.parametrize("name", ["fork", "restore"])
def test_a_copy_whose_reply_was_lost_is_found_again(name: str) -> None:
    world = World()
    session = world.session()
    stepped(world, session, 1)
    plan = (
        world.core.sessions.fork(session, "copy", None)
        if name == "fork"
        else world.core.sessions.restore(world.run_operation(session.snapshot()), "copy", None)
    )
    pending_call = world.submit(first_operation(plan))
    world.send()
    world.cut()
    world.settle()
    pending_call.future.result(0)
    assert kinds(world.server, -1) == [name]
    assert len(world.server.sessions) == 2


def test_a_session_of_another_program_is_neither_used_nor_disturbed() -> None:
    mine = World(store_kind="none")
    theirs = World(store_kind="none", server=mine.server, prefix="theirs")
    session = mine.run(mine.core.sessions.open("sum", "shared", None, None))
    stepped(mine, session, 1)
    mine.kill()
    theirs.cut()
    other = theirs.run(theirs.core.sessions.open("sum", "shared", None, None))
    stepped(theirs, other, 2)
    for _ in range(2):
        with pytest.raises(SessionMoved, match="another one"):
            stepped(mine, session, 4)
    assert stepped(theirs, other, 8) == 10


def test_a_session_that_was_resumed_elsewhere_during_a_timeout_is_not_taken_back() -> None:
    mine = World(retry_for_s=0.0)
    theirs = World(server=mine.server)
    session = mine.session()
    pending_call = mine.submit(session.step(np.int64(1)))
    mine.send()
    mine.cut()
    assert isinstance(pending_call.future.exception(0), Unavailable)
    other = theirs.run(theirs.core.sessions.resume(session.remote.id, None))
    for _ in range(2):
        with pytest.raises(SessionMoved):
            stepped(mine, session, 2)
    assert stepped(theirs, other, 4) == 5


def test_an_uncertain_session_is_closed_without_a_replay() -> None:
    world = World(retry_for_s=0.0, store_kind="none")
    session = world.session()
    for value in (1, 2):
        stepped(world, session, value)
    pending_call = world.submit(session.step(np.int64(4)))
    world.send()
    world.kill()
    assert isinstance(pending_call.future.exception(0), Unavailable)
    sent = len(world.server.messages)
    world.run_operation(session.close())
    assert kinds(world.server, sent) == ["resume"]
    assert not world.server.sessions
