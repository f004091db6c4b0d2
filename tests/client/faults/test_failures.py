"""Makes single requests fail: only the sessions concerned get an error, and the right one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.client.faults.sum_server import Request, Response
from tests.client.faults.world import World

from statewise.client import SessionLost, SessionMoved, Unavailable
from statewise.client.stream import PendingCall
from statewise.client.values import Status
from statewise.wire import (
    to_tensor,
)

OVERSIZED = Status("RESOURCE_EXHAUSTED", message="Received message larger than max")


def step_refused(code: int, reason: str, message: str) -> Callable[[Request], Response | None]:
    """An interceptor that refuses the first row of every step."""

    def intercept(request: Request) -> Response | None:
        if not request.HasField("step"):
            return None
        response = Response(request_id=request.request_id)
        response.step.errors.add(row=0, code=code, reason=reason, message=message)
        return response

    return intercept


def test_a_reply_that_makes_no_sense_fails_its_rows_alone() -> None:
    world = World()
    session = world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    assert world.stream is not None
    message = world.stream.take()
    assert message is not None
    request_id = Request.FromString(message).request_id
    nonsense = Response(request_id=request_id)
    nonsense.step.outputs["y"].CopyFrom(to_tensor(np.zeros(7)))
    world.core.multiplexer.receive(world.stream, nonsense)
    with pytest.raises(Exception, match="makes no sense"):
        pending_call.future.result(0)


@pytest.mark.parametrize("connected", [True, False])
def test_closing_settles_everything(connected: bool) -> None:
    world = World()
    session, group, idle = world.session(), world.group(2), world.session()
    if not connected:
        world.submit(idle.step(np.int64(1)))
        world.cut()
    waiting = [world.submit(session.step(np.int64(1))) for _ in range(3)]
    world.send()
    waiting.append(world.submit(group.step(np.ones(2, np.int64), None)))
    world.core.multiplexer.close()
    for pending_call in [*waiting, world.submit(session.step(np.int64(1)))]:
        with pytest.raises(Unavailable, match="client is closed"):
            pending_call.future.result(0)


def test_what_cannot_be_replayed_is_lost_and_never_wrong() -> None:
    world = World(replay_bytes=1000)
    short, long = world.session(), world.session()
    for session, steps in ((short, 3), (long, 30)):
        for _ in range(steps):
            world.submit(session.step(np.int64(1)))
            world.settle()
    world.kill()
    kept, lost = world.submit(short.step(np.int64(1))), world.submit(long.step(np.int64(1)))
    world.settle()
    assert int(kept.future.result(0)) == 4
    assert isinstance(lost.future.exception(0), SessionLost)


def test_a_session_somebody_else_took_is_not_taken_back() -> None:
    world = World()
    session = world.session()
    world.server.intercept = step_refused(10, "SESSION_MOVED", "resumed elsewhere")
    world.cut()
    pending_call = world.submit(session.step(np.int64(1)))
    world.settle()
    assert isinstance(pending_call.future.exception(0), SessionMoved)
    assert not any(message.HasField("resume") for message in world.server.messages)


def test_a_message_that_ends_the_stream_twice_is_over_the_limit() -> None:
    world = World()
    session, other = world.session(), world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    world.send()
    world.cut(OVERSIZED)
    innocent = world.submit(other.step(np.int64(1)))
    world.wait()
    assert world.stream is not None
    while world.stream.take() is not None:
        pass
    world.cut(OVERSIZED)
    world.settle()
    with pytest.raises(Exception, match="larger than max"):
        pending_call.future.result(0)
    assert int(innocent.future.result(0)) == 1


@pytest.mark.parametrize("many", [False, True])
def test_a_refusal_of_the_second_try_says_nothing_about_the_first(many: bool) -> None:
    world = World()
    group, session = world.group(1), world.session()

    def step(value: int) -> PendingCall[Any]:
        return world.submit(group.step(np.array([value]), None) if many else session.step(np.int64(value)))

    first = step(1)
    world.send()  # the server applies it
    world.cut()  # and its reply is lost
    world.server.intercept = step_refused(4, "DEADLINE", "too late")
    world.settle()
    assert first.future.exception(0) is not None
    world.server.intercept = lambda request: None
    second = step(2)
    world.settle()
    assert int(np.ravel(second.future.result(0))[0]) == 3
