"""Makes calls by awaiting, and carries a session stream: one task writes, one reads."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from statewise.client.stream import Metadata, StreamConnection, Tracing, closed_error
from statewise.client.transport._channel import (
    ENDED,
    Endpoint,
    carried,
    methods,
    session_stream,
    status_of,
)
from statewise.client.values import Failed, Status
from statewise.v1 import sequence_pb2


class AsyncConnection:
    """A channel whose calls are awaited. Arguments as for `SyncConnection`; made where the loop runs."""

    def __init__(self, endpoint: Endpoint, tracing: Tracing | None, closed: Callable[[], bool]) -> None:
        self._channel = (
            grpc.aio.insecure_channel(endpoint.target, endpoint.options)
            if endpoint.credentials is None
            else grpc.aio.secure_channel(endpoint.target, endpoint.credentials, endpoint.options)
        )
        self._metadata = endpoint.metadata
        self._tracing = tracing
        self._closed = closed
        self._methods = methods(self._channel)
        self._session_stream = session_stream(self._channel)

    @contextmanager
    def calling(self, method: str) -> Iterator[Metadata]:
        """Around a call: gives the metadata that it carries, and tells failures of the transport as ours.

        Raises:
            Failed: the call failed.
            Unavailable: the client was closed meanwhile.
        """
        try:
            with carried(self._metadata, method, self._tracing) as metadata:
                yield metadata
        except grpc.aio.AioRpcError as error:
            raise Failed(status_of(error)) from None
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Closing the client ends calls as if their tasks were cancelled.
            task = asyncio.current_task()
            if self._closed() and not (task and task.cancelling()):
                raise closed_error() from None
            raise

    def call(self, method: str, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        """The call: awaited it gives the response, or where `method` is one of `STREAMING` it iterates."""
        return self._methods[method](request, timeout=timeout_s, metadata=metadata)

    async def run_stream(
        self,
        stream: StreamConnection,
        receive: Callable[[StreamConnection, sequence_pb2.SessionStreamResponse], None],
        work: asyncio.Event,
    ) -> Status:
        """Carries a session stream until it ends, and returns why.

        Args:
            stream: gives the messages.
            receive: takes every response.
            work: set when there is something to write.
        """
        try:
            await self._converse(stream, receive, work)
        except grpc.aio.AioRpcError as error:
            return status_of(error)
        return ENDED

    async def close(self) -> None:
        """Ends the channel and its calls."""
        await self._channel.close()

    async def _converse(
        self,
        stream: StreamConnection,
        receive: Callable[[StreamConnection, sequence_pb2.SessionStreamResponse], None],
        work: asyncio.Event,
    ) -> None:
        call = self._session_stream(metadata=self._metadata)
        writer = asyncio.get_running_loop().create_task(self._write(stream, call, work))
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                receive(stream, response)
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, stream: StreamConnection, call: Any, work: asyncio.Event) -> None:
        try:
            while not stream.ended:
                message = stream.take()
                if message is not None:
                    await call.write(message)
                elif stream.retired:
                    await call.done_writing()
                    return
                else:
                    work.clear()
                    await work.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader is told why
