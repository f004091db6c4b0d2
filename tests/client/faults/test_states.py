"""Breaks off requests that give sessions other states: each is done once, and the journal begins there."""

from typing import Any

import numpy as np
import pytest
from tests.client.faults.sum_server import SumServer
from tests.client.faults.world import World

from statewise.client import (
    CheckpointExists,
    CheckpointNotFound,
    InvalidInput,
    NotImplementedByServer,
    PartialFailure,
    Unavailable,
)
from statewise.client.groups import (
    GroupCore,
    checkpoint_of_rows,
    rewind_rows,
    set_states_of_rows,
    states_of_rows,
)
from statewise.client.requests import OpenOptions
from statewise.client.sessions import SessionCore
from statewise.client.states import checkpoint_of, checkpoints_of, rewind_of, set_state_of, state_of
from statewise.v1 import sequence_pb2


def opened(world: World, **options: Any) -> SessionCore:
    return world.run(world.core.sessions.open("sum", "a", None, None, OpenOptions(**options)))


def stepped(world: World, session: SessionCore, *values: int) -> int:
    total = 0
    for value in values:
        pending_call = world.submit(session.step(np.int64(value)))
        world.settle()
        total = int(pending_call.future.result(0))
    return total


def group_of(world: World, count: int, **options: Any) -> GroupCore:
    return world.run(
        world.core.groups.open(
            "sum", count=count, session_ids=None, version=None, timeout_s=None, options=OpenOptions(**options)
        )
    )


def held(world: World) -> tuple[int, int]:
    session = world.server.sessions["a"]
    return session.position, session.total


def marked(world: World, session: SessionCore, name: str) -> None:
    world.run_operation(checkpoint_of(session, name))


def broken(world: World, operation: Any, *, reaches: bool, kill: bool = False) -> Any:
    """Begins an operation whose connection breaks when the server has its request, or before."""
    pending_call = world.submit(operation)
    if reaches:
        world.send()
    else:
        assert world.stream is not None
        world.stream.take()
    if kill:
        world.kill()
    else:
        world.cut()
    return pending_call


def kinds(server: SumServer, since: int) -> list[str]:
    return [str(request.WhichOneof("operation")) for request in server.messages[since:]]


@pytest.mark.parametrize("reaches", [True, False])
@pytest.mark.parametrize("kill", [True, False])
@pytest.mark.parametrize("store", ["sqlite", "none"])
@pytest.mark.parametrize("position", [None, 1, 7])
def test_a_write_whose_reply_was_lost_is_done_once(
    reaches: bool, kill: bool, store: str, position: int | None
) -> None:
    world = World(store_kind=store)
    session = opened(world)
    stepped(world, session, 1, 2, 4)
    if store == "sqlite":
        world.store()
    pending_call = broken(world, set_state_of(session, {"total": 100}, position), reaches=reaches, kill=kill)
    world.settle()
    pending_call.future.result(0)
    expected = 3 if position is None else position
    assert held(world) == (expected, 100)
    assert session.remote.position == expected
    assert stepped(world, session, 8) == 108
    world.kill()
    assert stepped(world, session, 16) == 124


@pytest.mark.parametrize("reaches", [True, False])
@pytest.mark.parametrize("kill", [True, False])
@pytest.mark.parametrize("position", [1, 3, 7])
def test_a_write_that_raised_is_completed_by_the_next_operation(
    reaches: bool, kill: bool, position: int
) -> None:
    world = World(retry_for_s=0.0, store_kind="none")
    session = opened(world)
    stepped(world, session, 1, 2, 4)
    pending_call = broken(world, set_state_of(session, {"total": 100}, position), reaches=reaches)
    assert isinstance(pending_call.future.exception(0), Unavailable)
    if kill:
        world.server.forget()
    world.core.multiplexer.retry_for_s = 1e9
    assert stepped(world, session, 8) == 108
    assert held(world) == (position + 1, 108)


def test_a_write_that_the_server_refuses_is_none() -> None:
    world = World(retry_for_s=0.0, store_kind="none")
    session = opened(world)
    stepped(world, session, 1, 2)

    def refuse(request: sequence_pb2.SessionStreamRequest) -> sequence_pb2.SessionStreamResponse | None:
        if request.WhichOneof("operation") != "write_states":
            return None
        reply = sequence_pb2.SessionStreamResponse(request_id=request.request_id)
        reply.write_states.errors.add(code=3, reason="BAD_TENSOR", message="not finite")
        return reply

    world.server.intercept = refuse
    with pytest.raises(InvalidInput, match="not finite"):
        world.run_operation(set_state_of(session, {"total": 100}, None))
    world.kill()
    assert stepped(world, session, 4) == 7


@pytest.mark.parametrize("reaches", [True, False])
@pytest.mark.parametrize("gives_up", [True, False])
@pytest.mark.parametrize("kill", [True, False])
def test_a_way_to_a_checkpoint_whose_reply_was_lost_leads_there(
    reaches: bool, gives_up: bool, kill: bool
) -> None:
    world = World(retry_for_s=0.0 if gives_up else 1e9, store_kind="sqlite")
    session = opened(world)
    stepped(world, session, 1)
    marked(world, session, "one")
    world.run_operation(session.rewind())
    # The journal leads to the checkpoint's position, and to another state.
    stepped(world, session, 2, 4)
    world.store()
    pending_call = broken(world, rewind_of(session, "one"), reaches=reaches, kill=kill)
    world.core.multiplexer.retry_for_s = 1e9
    if gives_up:
        assert isinstance(pending_call.future.exception(0), Unavailable)
    else:
        world.settle()
        pending_call.future.result(0)
        assert session.remote.position == 1
    assert stepped(world, session, 8) == 9
    assert held(world) == (2, 9)


def test_a_server_that_lost_a_session_at_its_checkpoint_gets_it_back() -> None:
    world = World(store_kind="none")
    session = opened(world)
    stepped(world, session, 1)
    marked(world, session, "one")
    stepped(world, session, 2, 4)
    world.run_operation(rewind_of(session, "one"))
    assert stepped(world, session, 8) == 9
    world.kill()
    assert stepped(world, session, 16) == 25
    with pytest.raises(CheckpointNotFound):
        world.run_operation(rewind_of(session, "one"))
    assert world.run_operation(checkpoints_of(session)) == []
    assert stepped(world, session, 32) == 57


def test_a_checkpoint_is_made_once_and_never_changes() -> None:
    world = World()
    session = opened(world)
    stepped(world, session, 1)
    pending_call = broken(world, checkpoint_of(session, "one"), reaches=True)
    world.settle()
    assert pending_call.future.result(0).position == 1
    marked(world, session, "one")
    stepped(world, session, 2)
    with pytest.raises(CheckpointExists):
        marked(world, session, "one")
    assert [kept.position for kept in world.run_operation(checkpoints_of(session))] == [1]


@pytest.mark.parametrize("kill", [True, False])
def test_the_last_requests_are_taken_back_one_by_one(kill: bool) -> None:
    world = World(store_kind="none")
    session = opened(world, keep=3)
    stepped(world, session, 1, 2, 4, 8, 16)
    for total in (15, 7, 3):
        if kill:
            world.kill()
        world.run_operation(session.rewind())
        assert world.run_operation(state_of(session))["total"] == total
    with pytest.raises(InvalidInput, match="the last 3 requests can be undone, and nothing"):
        world.run_operation(session.rewind())
    assert stepped(world, session, 32) == 35


def test_a_server_that_gets_a_session_back_keeps_as_much_of_it() -> None:
    world = World(store_kind="none")
    session = opened(world, keep=3)
    stepped(world, session, 1, 2, 4, 8, 16)
    world.kill()
    stepped(world, session, 32)
    assert world.server.sessions["a"].kept_positions == [3, 4, 5]


def test_a_position_is_gone_back_to_at_once() -> None:
    world = World(store_kind="none")
    session = opened(world, keep=4)
    stepped(world, session, 1, 2, 4, 8, 16)
    for wrong in (0, 9):
        with pytest.raises(InvalidInput, match=rf"positions kept of session 'a' \(1, 2, 3, 4\); got {wrong}"):
            world.run_operation(rewind_of(session, wrong))
    world.run_operation(rewind_of(session, 5))
    assert held(world) == (5, 31)
    pending_call = broken(world, rewind_of(session, 2), reaches=True)
    world.settle()
    pending_call.future.result(0)
    assert held(world) == (2, 3)
    assert stepped(world, session, 32) == 35
    world.kill()
    world.run_operation(rewind_of(session, 1))
    assert held(world) == (1, 1)


def test_what_a_resumed_session_keeps_is_known() -> None:
    world = World()
    session = opened(world, keep=2)
    stepped(world, session, 1, 2, 4)
    again = world.run(world.core.sessions.resume("a", None))
    assert again.remote.kept_positions == [1, 2]
    world.run_operation(again.rewind())
    world.run_operation(again.rewind())
    assert held(world) == (1, 1)
    with pytest.raises(InvalidInput, match="expected a step or generation to undo"):
        world.run_operation(again.rewind())


def test_a_session_that_was_taken_over_at_its_start_is_not_taken_for_a_new_one() -> None:
    world = World(store_kind="none")
    opened(world, state={"total": 100})
    again = world.run(world.core.sessions.resume("a", None))
    world.kill()
    with pytest.raises(Exception, match="no server has it any more"):
        stepped(world, again, 1)


def test_a_fork_at_a_checkpoint_has_its_state() -> None:
    world = World()
    session = opened(world)
    stepped(world, session, 1)
    marked(world, session, "one")
    stepped(world, session, 2)
    twin = world.run(world.core.sessions.fork(session, "b", None, "one"))
    assert (twin.remote.position, stepped(world, twin, 4)) == (1, 5)
    assert stepped(world, session, 8) == 11


@pytest.mark.parametrize("reaches", [True, False])
@pytest.mark.parametrize("kill", [True, False])
def test_a_groups_requests_whose_reply_was_lost_are_done_once(reaches: bool, kill: bool) -> None:
    world = World(store_kind="none")
    group = group_of(world, 3, keep=2)

    def step(*values: int) -> list[int]:
        totals: list[int] = world.run_operation(group.step(np.array(values), None)).tolist()
        return totals

    def broke(operation: Any) -> Any:
        pending_call = broken(world, operation, reaches=reaches, kill=kill)
        world.settle()
        return pending_call.future.result(0)

    step(1, 2, 4)
    step(8, 8, 8)
    broke(rewind_rows(group, None, None))
    assert group.positions.tolist() == [1, 1, 1]
    assert world.run_operation(states_of_rows(group, None))["total"].tolist() == [1, 2, 4]
    broke(set_states_of_rows(group, {"total": [100, 200, 300]}, [5, 6, 1], None))
    assert group.positions.tolist() == [5, 6, 1]
    assert step(1, 2, 4) == [101, 202, 304]
    broke(rewind_rows(group, None, [1]))
    assert world.run_operation(states_of_rows(group, None))["total"].tolist() == [101, 200, 304]
    assert broke(states_of_rows(group, [2, 0]))["total"].tolist() == [304, 101]
    assert step(1, 2, 4) == [102, 202, 308]


def test_a_group_goes_to_checkpoints_and_comes_back_to_them() -> None:
    world = World(store_kind="none")
    group = group_of(world, 3)
    world.run_operation(group.step(np.array([1, 2, 4]), None))
    made = world.run_operation(checkpoint_of_rows(group, "one", [0, 2]))
    assert [kept.position for kept in made] == [1, 1]
    world.run_operation(group.step(np.array([8, 8, 8]), None))
    with pytest.raises(PartialFailure) as caught:
        world.run_operation(rewind_rows(group, "one", None))
    assert [type(error) for error in caught.value.errors.values()] == [CheckpointNotFound]
    assert group.positions.tolist() == [1, 2, 1]
    world.kill()
    totals = world.run_operation(group.step(np.array([16, 16, 16]), None))
    assert totals.tolist() == [17, 26, 20]


def test_rows_that_have_nothing_to_undo_fail_alone() -> None:
    world = World()
    group = group_of(world, 3)
    world.run_operation(group.step(np.array([1, 2]), [0, 2]))
    with pytest.raises(PartialFailure) as caught:
        world.run_operation(rewind_rows(group, None, None))
    assert [type(error) for error in caught.value.errors.values()] == [InvalidInput]
    assert group.positions.tolist() == [0, 0, 0]


def test_an_older_server_says_so() -> None:
    world = World()
    describe = world.server._describe

    def older(session: Any) -> sequence_pb2.Session:
        message = describe(session)
        message.keep, message.kept_positions = 0, b""
        return message

    world.server._describe = older  # type: ignore[method-assign, assignment]
    session = opened(world)
    stepped(world, session, 1, 2)
    for operation in (
        checkpoint_of(session, "one"),
        checkpoints_of(session),
        rewind_of(session, "one"),
        session.fork("b", "one"),
        session.snapshot(checkpoints=True),
    ):
        with pytest.raises(NotImplementedByServer, match="the server is older than checkpoints"):
            world.run_operation(operation)
    world.run_operation(session.rewind())
    assert held(world) == (1, 1)
    for options in ({"state": {"total": 5}}, {"keep": 2}):
        with pytest.raises(NotImplementedByServer, match="older than state= and keep="):
            world.run(world.core.sessions.open("sum", None, None, None, OpenOptions(**options)))
        with pytest.raises(NotImplementedByServer, match="older than state= and keep="):
            group_of(world, 2, **options)
    assert list(world.server.sessions) == ["a"]
