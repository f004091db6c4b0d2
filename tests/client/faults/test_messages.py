"""Checks the messages that a client sends: few, in order, as the contract says."""

import numpy as np
from tests.client.faults.sum_server import Request, Response
from tests.client.faults.world import World

from statewise.wire import (
    from_tensor,
    pack_uint64,
    unpack_uint32,
    unpack_uint64,
)


def test_steps_of_the_same_moment_leave_in_one_message() -> None:
    world = World()
    sessions = [world.session() for _ in range(100)]
    del world.server.messages[:]
    pending_calls = [world.submit(session.step(np.int64(number))) for number, session in enumerate(sessions)]
    world.settle()
    assert len(world.server.messages) == 1
    assert [int(pending_call.future.result(0)) for pending_call in pending_calls] == list(range(100))


def test_a_session_steps_in_the_order_it_was_asked() -> None:
    world = World()
    session = world.session()
    pending_calls = [world.submit(session.step(np.int64(1 << number))) for number in range(10)]
    world.settle()
    assert [int(pending_call.future.result(0)) for pending_call in pending_calls] == [
        (2 << number) - 1 for number in range(10)
    ]


def test_a_step_given_up_before_it_was_sent_is_not_applied() -> None:
    world = World()
    session = world.session()
    first, second = (world.submit(session.step(np.int64(1 << bit))) for bit in (0, 1))
    world.core.multiplexer.abandon(second)
    world.settle()
    last = world.submit(session.step(np.int64(4)))
    world.settle()
    assert (int(first.future.result(0)), int(last.future.result(0))) == (1, 5)


def test_a_lone_step_given_up_after_it_was_sent_is_cancelled() -> None:
    world = World()
    session = world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    world.send()
    world.core.multiplexer.abandon(pending_call)
    world.settle()
    sent = world.server.messages[-1]
    assert sent.WhichOneof("operation") == "cancel"
    assert sent.cancel.target_request_id == world.server.messages[-2].request_id


def test_a_replay_is_few_messages() -> None:
    world = World()
    session = world.session()
    for _ in range(500):
        pending_call = world.submit(session.step(np.int64(1)))
        world.settle()
    world.kill()
    del world.server.messages[:]
    pending_call = world.submit(session.step(np.int64(1)))
    world.settle()
    assert int(pending_call.future.result(0)) == 501
    assert [message.WhichOneof("operation") for message in world.server.messages] == (
        ["step", "resume", "open", "step", "step", "step"]
    )


def test_the_messages_are_what_the_contract_says() -> None:
    world = World()
    session = world.session()
    world.submit(session.step(np.array([5, 6], np.int64)))
    world.settle()
    sent = world.server.messages[-1].step
    assert sent.handles == pack_uint64([world.server.sessions["session 0"].handle])
    assert unpack_uint64(sent.positions).tolist() == [0]
    assert unpack_uint32(sent.steps).tolist() == [2]
    assert from_tensor(sent.inputs["x"]).tolist() == [5, 6]


def test_a_refused_step_batch_is_sent_again_row_by_row() -> None:
    world = World()
    sessions = [world.session() for _ in range(3)]

    def refuse_together(request: Request) -> Response | None:
        if not request.HasField("step") or len(request.step.handles) <= 8:
            return None
        response = Response(request_id=request.request_id)
        response.error.code = 3
        return response

    world.server.intercept = refuse_together
    pending_calls = [world.submit(session.step(np.int64(7))) for session in sessions]
    world.settle()
    assert [int(pending_call.future.result(0)) for pending_call in pending_calls] == [7, 7, 7]
