"""Spaces connections and repeated requests, and gives up in time."""

import numpy as np
import pytest
from google.rpc import error_details_pb2
from tests.client.faults.sum_server import Request, Response
from tests.client.faults.world import World

from statewise.client import Overloaded, Unavailable
from statewise.client.bulk import sample_of
from statewise.client.requests import Wait
from statewise.client.values import Failed, Status
from statewise.wire import (
    Reason,
)


def test_connections_are_spaced() -> None:
    world = World(retry_for_s=10)
    session = world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    world.connections = 0
    while not pending_call.future.done():
        assert world.cut() or world.wait()
    assert isinstance(pending_call.future.exception(), Unavailable)
    assert 10 <= world.now_s < 13
    assert world.connections < 15


def test_questions_after_a_model_that_is_being_loaded_are_spaced() -> None:
    world = World(retry_for_s=10)
    tries = 0

    def refuse(request: Request) -> Response:
        nonlocal tries
        tries += 1
        response = Response(request_id=request.request_id)
        response.error.code = 14
        response.error.details.add().Pack(error_details_pb2.ErrorInfo(reason="MODEL_LOADING"))
        return response

    world.server.intercept = refuse
    with pytest.raises(Unavailable):
        world.session()
    assert 10 <= world.now_s < 13
    assert tries < 15


def test_bulk_work_waits_for_no_longer_than_the_client_has_patience() -> None:
    world = World(retry_for_s=10)
    scoring, answer = world.run(
        world.core.sequences.scoring("sum", start=0, version=None, labels=False, timeout_s=None)
    )
    scoring.offer(sample_of(0, np.ones(3, np.int64)))
    world.now_s += 1  # no other sequence comes to share the request
    batch = scoring.take()
    assert batch is not None
    plan = answer(batch)
    full = Failed(Status("RESOURCE_EXHAUSTED", Reason.QUEUE_FULL, "the queue is full", retry_after_s=3600))

    def wait() -> None:
        effect = next(plan)
        while True:
            if isinstance(effect, Wait):
                world.now_s += effect.delay_s
                effect = plan.send(None)
            else:
                effect = plan.throw(full)

    with pytest.raises(Overloaded, match="the queue is full"):
        wait()
    assert world.now_s == pytest.approx(1 + 10)


def test_a_server_that_drains_gets_no_more_requests() -> None:
    world = World()
    session = world.session()
    old = world.stream
    assert old is not None
    pending_call = world.submit(session.step(np.int64(1)))
    world.send()
    news = Response()
    news.draining.SetInParent()
    world.core.multiplexer.receive(old, news)
    second = world.submit(session.step(np.int64(2)))
    assert old.take() is None
    assert old.retired
    world.settle()
    assert (int(pending_call.future.result(0)), int(second.future.result(0))) == (1, 3)
    assert world.stream is not old
