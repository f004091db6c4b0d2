"""Reads no long replies: the server stops to read the requests of that stream."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.caller import Caller
from tests.helpers.held_call import HeldCall

from statewise.service import Settings
from statewise.service.assembly import build_dataplane
from statewise.service.auth import ANYBODY, enter_call
from statewise.service.transport.servicers._session_operations import SessionOperations
from statewise.service.transport.servicers._session_stream import SessionStream
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint64

MESSAGE_BYTES = 65_536
STEPS = 4_096  # with 8 bytes of output each: half a message


@pytest.mark.parametrize(("operation", "most"), [("step", 10), ("snapshot", 7), ("read_states", 21)])
async def test_a_stream_holds_four_messages_of_replies(repository: Path, operation: str, most: int) -> None:
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(
            repository=repository, load_in_child=False, message_bytes=MESSAGE_BYTES, inline_s=60
        )
        dataplane = build_dataplane(settings, executor=executor)
        await dataplane.models.load_all()
        enter_call(ANYBODY)
        opened, _ = await dataplane.sessions.open(
            "steps", 0, [f"s{row}" for row in range(200)], owner=ANYBODY.owner
        )
        handles = [one.view.handle for one in opened]
        x = np.zeros((STEPS, 3), np.float32)
        operations: dict[str, Any] = {
            "step": Caller.frame([(handles[0], 0)], x, steps=[STEPS]),
            "snapshot": pb.SnapshotSessionsRequest(handles=pack_uint64(handles)),
            "read_states": pb.ReadStatesRequest(handles=pack_uint64(handles)),
        }
        asked = {operation: operations[operation]}
        call = HeldCall(
            pb.SessionStreamRequest(request_id=number, **asked).SerializeToString()
            for number in itertools.count(1)
        )
        stream = SessionStream(
            call, SessionOperations(dataplane), caller=ANYBODY, requests=64, message_bytes=MESSAGE_BYTES
        )
        serving = asyncio.create_task(stream.run())
        await _let_everything_run()
        assert dataplane.models.find("steps").scheduler.queued_steps == 0
        before = call.reads
        assert 4 <= before <= most
        for _ in range(3):
            call.take()
        await _let_everything_run()
        assert before < call.reads <= before + 3
        serving.cancel()
        await asyncio.wait([serving])


async def _let_everything_run() -> None:
    """Turns the event loop, on which all runs happen."""
    for _ in range(2_000):
        await asyncio.sleep(0)
