"""Makes calls by awaiting, and runs session streams: one task writes, one reads."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from statewise.client.stream import Metadata, StreamConnection, Tracing
from statewise.client.transport._channel import (
    ENDED,
    LOST,
    Endpoint,
    methods,
    session_stream,
    with_span,
)
from statewise.client.values import Failed, StatewiseError, Status
from statewise.v1 import sequence_pb2

_LOST_WRITE = "Internal error from Core"
"""What grpc.aio reports in place of the stream's status if the stream ends during a write."""


class AsyncConnection:
    """A channel whose calls are awaited. Arguments as for `SyncConnection`; made where the loop runs."""

    def __init__(
        self, endpoint: Endpoint, tracing: Tracing | None, closed: Callable[[], StatewiseError | None]
    ) -> None:
        self._channel = (
            grpc.aio.insecure_channel(endpoint.target, endpoint.options)
            if endpoint.credentials is None
            else grpc.aio.secure_channel(endpoint.target, endpoint.credentials, endpoint.options)
        )
        self._metadata = endpoint.metadata
        self._status_of = endpoint.status_of
        self._tracing = tracing
        self._closed = closed
        self._methods = methods(self._channel)
        self._session_stream = session_stream(self._channel)

    @contextmanager
    def calling(self, method: str) -> Iterator[Metadata]:
        """Wraps a call: gives its metadata, and translates errors of gRPC.

        Raises:
            Failed: the call failed.
            Unavailable: the client was closed during the call.
        """
        try:
            with with_span(self._metadata, method, self._tracing) as metadata:
                yield metadata
        except grpc.aio.AioRpcError as error:
            raise Failed(self._status_of(error)) from None
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Closing the channel raises CancelledError in its calls although no task was cancelled.
            task = asyncio.current_task()
            closed = self._closed()
            if closed is not None and not (task and task.cancelling()):
                raise closed from None
            raise

    def call(self, method: str, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        """Begins a call: awaiting it returns the response; a `STREAMING` method's responses are iterated."""
        return self._methods[method](request, timeout=timeout_s, metadata=metadata)

    async def run_stream(
        self,
        stream: StreamConnection,
        receive: Callable[[StreamConnection, sequence_pb2.SessionStreamResponse], None],
        work: asyncio.Event,
    ) -> Status:
        """Runs a session stream until it ends; returns why it ended.

        Args:
            stream: returns the messages to send.
            receive: called with every response.
            work: set when there is something to write.
        """
        try:
            await self._converse(stream, receive, work)
        except grpc.aio.AioRpcError as error:
            return LOST if error.details() == _LOST_WRITE else self._status_of(error)
        return ENDED

    async def close(self) -> None:
        """Closes the channel and ends its calls."""
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
            return  # the reader gets the status
