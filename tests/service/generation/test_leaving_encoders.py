"""Leaves while an encoder runs: its job ends soon, and counts as waiting until then."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.helpers.held_encoder import HeldEncoder, held_encoder

from statewise.service import ServiceError
from statewise.service.auth import ANYBODY, enter_call
from statewise.service.monitoring import read_model_gauges
from statewise.service.transport.servicers._session_operations import SessionOperations
from statewise.v1 import sequence_pb2 as pb
from statewise.v1.tensor_pb2 import TextRows
from statewise.wire import Reason

LONG = ("pqrst" * 20_000,)


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[HeldEncoder]:
    async with held_encoder(tmp_path) as held:
        yield held


async def test_a_cancelled_encoding_waits_for_the_end_of_its_slice_and_runs_no_further(
    held: HeldEncoder,
) -> None:
    scheduler = held.scheduler()
    encoding = await held.begin(0, LONG)
    encoding.cancel()
    await held.turn_loop()
    assert not encoding.done()
    assert scheduler.queued_steps == len(LONG[0])
    assert read_model_gauges(held.dataplane)["speech", 2].queued_steps == len(LONG[0])
    held.go_on.set()
    await asyncio.wait([encoding])
    assert encoding.cancelled()
    assert scheduler.queued_steps == 0
    assert sum(scheduler.statistics.long.run_s.counts) == 1


async def test_a_cancelled_encoding_that_has_not_begun_leaves_the_queue_at_once(held: HeldEncoder) -> None:
    scheduler = held.scheduler()
    running = await held.begin(0, LONG)
    for _ in range(50):
        waiting = await held.begin(0, LONG)
        waiting.cancel()
        await held.turn_loop()
        assert waiting.cancelled()
        assert scheduler.queued_steps == len(LONG[0])
    running.cancel()
    held.go_on.set()
    await asyncio.wait([running])


async def test_an_opening_ends_at_the_deadline_of_its_call(held: HeldEncoder) -> None:
    request = pb.OpenSessionsRequest(model="speech", session_ids=["a"], encoder_text=TextRows(rows=LONG))
    enter_call(ANYBODY)
    opening = asyncio.create_task(SessionOperations(held.dataplane).open(request, remaining_s=0.0))
    await held.turn_loop()
    with pytest.raises(ServiceError) as failure:
        await opening
    assert failure.value.reason is Reason.DEADLINE
    assert held.scheduler().queued_steps == 0
