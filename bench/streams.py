"""Runs streams of steps on the server, or on a bare echo of the same bytes."""

import asyncio
import time
from typing import Any

import grpc
import numpy as np
from bench.harness import Served, percentiles_us

from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor, pack_uint64, to_tensor

_ECHO = "/bench.Echo/Echo"
STREAM = "/statewise.v1.SequenceService/SessionStream"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class BatchStream:
    """Steps its own sessions on one stream, one step batch a message.

    Messages are bytes on the client's side, so the client does the same work for the server as for the echo.
    """

    def __init__(self, call: Any, handles: list[int], x: np.ndarray, first_position: int) -> None:
        self.call = call
        self.position = first_position
        self._request = sequence_pb2.SessionStreamRequest(
            request_id=1,
            step=sequence_pb2.StepRequest(handles=pack_uint64(handles), inputs={"x": to_tensor(x)}),
        )
        self._rows = len(handles)

    def message(self) -> bytes:
        """Encodes the next step batch."""
        self._request.step.positions = np.full(self._rows, self.position, np.uint64).tobytes()
        self.position += 1
        return self._request.SerializeToString()

    async def exchange(self) -> bytes:
        """Sends one step batch and reads the reply."""
        await self.call.write(self.message())
        return await self.call.read()


async def open_streams(
    channel: grpc.aio.Channel, *, model: str, size: int, streams: int, sessions: int, echo: bool
) -> list[BatchStream]:
    """Opens streams with a number of sessions each; on the echo there are no sessions, only bytes."""
    random = np.random.default_rng(1)
    opened = []
    for number in range(streams):
        x = random.standard_normal((sessions, size)).astype(np.float32)
        call = channel.stream_stream(_ECHO if echo else STREAM)()
        handles = list(range(1, sessions + 1))
        if not echo:
            request = sequence_pb2.SessionStreamRequest(
                request_id=1,
                open=sequence_pb2.OpenSessionsRequest(
                    model=model, session_ids=[f"{id(channel)} {number} {row}" for row in range(sessions)]
                ),
            )
            await call.write(request.SerializeToString())
            reply = sequence_pb2.SessionStreamResponse.FromString(await call.read())
            handles = [session.handle for session in reply.open.sessions]
            assert len(handles) == sessions, reply
        stream = BatchStream(call, handles, x, 0)
        reply_bytes = await stream.exchange()
        if not echo:
            reply = sequence_pb2.SessionStreamResponse.FromString(reply_bytes)
            assert from_tensor(reply.step.outputs["y"]).shape == (sessions, size), reply
        opened.append(stream)
    return opened


async def load(
    streams: list[BatchStream], served: Served, *, seconds: float, in_flight: int = 1
) -> dict[str, float]:
    """Keeps every stream busy; measures server CPU a message, throughput and latencies."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def drive(stream: BatchStream) -> None:
        sent: list[float] = []
        for _ in range(in_flight):
            sent.append(time.perf_counter())
            await stream.call.write(stream.message())
        while sent:
            await stream.call.read()
            now = time.perf_counter()
            latencies.append(now - sent.pop(0))
            if now < end:
                sent.append(now)
                await stream.call.write(stream.message())

    cpu = served.cpu_s()
    begun = time.perf_counter()
    await asyncio.gather(*(drive(stream) for stream in streams))
    elapsed = time.perf_counter() - begun
    return {
        "cpu_us": (served.cpu_s() - cpu) / len(latencies) * 1e6,
        "per_s": len(latencies) / elapsed,
        **percentiles_us(latencies),
    }


def measure(served: Served, *, seconds: float, in_flight: int = 1, **kind: Any) -> dict[str, float]:
    """Opens streams, loads them, closes them."""

    async def run() -> dict[str, float]:
        async with grpc.aio.insecure_channel(served.address, options=_OPTIONS) as channel:
            streams = await open_streams(channel, **kind)
            figures = await load(streams, served, seconds=seconds, in_flight=in_flight)
            if not kind["echo"]:
                await _close(streams)
            return figures

    return asyncio.run(run())


async def _close(streams: list[BatchStream]) -> None:
    for stream in streams:
        request = sequence_pb2.SessionStreamRequest(
            request_id=1,
            close=sequence_pb2.CloseSessionsRequest(handles=stream._request.step.handles),
        )
        await stream.call.write(request.SerializeToString())
        await stream.call.read()
