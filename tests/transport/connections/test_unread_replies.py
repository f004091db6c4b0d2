"""Reads no replies: the server bounds the memory that they take, and gives them up."""

import asyncio
import itertools
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.attacks.bystander import connect_bystander
from tests.helpers.caller import connect
from tests.helpers.models.small import SmallModels
from tests.helpers.server_process import ServerProcesses

from statewise.v1 import admin_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, to_tensor

MIB = 1024 * 1024


@pytest.mark.parametrize("requests", [8, 64])
async def test_a_stream_that_is_never_read_holds_a_bounded_number_of_replies_and_is_given_up(
    processes: ServerProcesses, small_models: SmallModels, requests: int
) -> None:
    server = processes.start(stall_s=1.0, stream_requests=requests)
    big = np.zeros((100_000, 3), np.float32)
    async with (
        connect_bystander(server.address, small_models) as bystander,
        connect(server.address) as attacker,
    ):
        (handle,) = await attacker.open("steps", "a")
        memory = server.resident_bytes
        frame = attacker.frame([(handle, 0)], big, steps=[len(big)])

        async def write_on() -> None:
            for number in itertools.count(1_000):
                await attacker.stream.write(pb.SessionStreamRequest(request_id=number, step=frame))

        attack = asyncio.create_task(write_on())
        watching = bystander.caller.admin.WatchStats(admin_pb2.WatchStatsRequest())
        most = 0
        async for stats in watching:
            most = max(most, server.resident_bytes - memory)
            await bystander.steps()
            if stats.streams == 1:
                break
        watching.cancel()
        attack.cancel()
        # 8 requests of 1.2 MB, their replies of 0.8 MB, and what gRPC and the allocator keep. Of 64 requests
        # only those are read whose replies fill four messages.
        assert 0 < most < 96 * MIB


LONG = pb.PredictRequest(
    model="steps",
    lengths=pack_uint32([20_000] * 10),
    inputs={"x": to_tensor(np.zeros((200_000, 3), np.float32))},
)
"""A prediction with 2.4 MB of inputs and 1.6 MB of outputs."""


NARROW: dict[str, Any] = {"http2.lookahead_bytes": 1024, "http2.bdp_probe": 0}
"""Options of a client that buffers little."""


async def test_predictions_that_are_never_read_leave_memory_flat(
    processes: ServerProcesses, small_models: SmallModels
) -> None:
    """Four of 160 predictions fit and the others are refused; all of them would be 640 MB."""
    server = processes.start(prediction_bytes=16 * MIB)
    async with (
        connect_bystander(server.address, small_models) as bystander,
        connect(server.address, **NARROW) as attacker,
    ):
        memory = server.resident_bytes
        stuck: set[asyncio.Task[grpc.StatusCode]] = set()
        for _ in range(32):
            codes = {asyncio.create_task(attacker.sequences.Predict(LONG).code()) for _ in range(5)}
            ended: set[asyncio.Task[grpc.StatusCode]] = set()
            while len(ended) < (5 if stuck else 1):
                done, codes = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
                ended |= done
            assert {code.result() for code in ended} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            stuck |= codes
            await bystander.steps()
        assert server.resident_bytes - memory < 256 * MIB
        for code in stuck:
            code.cancel()


async def _rows_of(call: grpc.aio.UnaryStreamCall[pb.PredictRequest, pb.PredictResponse]) -> int:
    """Reads a prediction; 0 rows: the server has refused it."""
    try:
        return sum([len(part.rows) // 4 async for part in call])
    except grpc.aio.AioRpcError:
        return 0


async def test_predictions_that_are_never_read_are_given_up(processes: ServerProcesses) -> None:
    server = processes.start(stall_s=0.5, prediction_bytes=5 * MIB)
    async with connect(server.address, **NARROW) as attacker, connect(server.address) as honest:
        refused = 0
        # On a slow machine the server gives the call up before another can be refused for its sake.
        while not refused:
            call = attacker.sequences.Predict(LONG)
            await call.initial_metadata()
            while not (rows := await _rows_of(honest.sequences.Predict(LONG))):
                refused += 1
            assert rows == 10


async def test_a_refused_request_is_let_go_at_once(processes: ServerProcesses) -> None:
    """The memory of a request is free without a search for cycles, until which many requests could come.

    Kept requests would take 720 MB here. What the allocator keeps for threads that read settles late.
    """
    server = processes.start_without_collector()
    request = pb.PredictRequest(model="nobody", lengths=LONG.lengths, inputs=LONG.inputs)
    async with connect(server.address) as caller:
        memory = server.resident_bytes
        for _ in range(300):
            assert await caller.sequences.Predict(request).code() is grpc.StatusCode.NOT_FOUND
        assert server.resident_bytes - memory < 256 * MIB
