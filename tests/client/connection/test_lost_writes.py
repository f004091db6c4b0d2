"""Ends streams while the client writes: for the client the stream is broken, and it connects again."""

import asyncio
from typing import Any, cast

import grpc

from statewise.client.stream import StreamConnection
from statewise.client.transport import AsyncConnection, Endpoint
from statewise.v1 import sequence_pb2, sequence_pb2_grpc


class AlwaysBusy:
    """A stream that never runs out of messages."""

    ended = retired = False

    def take(self) -> bytes:
        return sequence_pb2.SessionStreamRequest(request_id=1).SerializeToString()


class Unwilling(sequence_pb2_grpc.SequenceServiceServicer):
    """Ends every stream after its first message."""

    async def SessionStream(  # type: ignore[override]  # noqa: N802 - the name of the RPC
        self, _: Any, context: Any
    ) -> None:
        await context.read()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server goes down")


async def test_a_stream_that_ends_during_a_write_is_unavailable() -> None:
    server = grpc.aio.server()
    unwilling = Unwilling()  # type: ignore[abstract]  # the other calls are not made
    sequence_pb2_grpc.add_SequenceServiceServicer_to_server(unwilling, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = AsyncConnection(Endpoint(f"127.0.0.1:{port}", None, (), ()), None, lambda: None)
    stream = cast("StreamConnection", AlwaysBusy())
    for _ in range(20):
        status = await connection.run_stream(stream, lambda *_: None, asyncio.Event())
        assert status.code == "UNAVAILABLE", status
    await connection.close()
    await server.stop(None)
