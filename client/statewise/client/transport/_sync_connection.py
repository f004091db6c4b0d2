"""Makes calls by blocking, and reads session streams in the thread that asks for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc

from statewise.client.stream import Metadata, StreamConnection, Tracing, closed_error
from statewise.client.transport._channel import (
    ENDED,
    Endpoint,
    methods,
    session_stream,
    status_of,
    with_span,
)
from statewise.client.values import Failed, Status
from statewise.v1 import sequence_pb2


class SyncConnection:
    """A channel whose calls block.

    Args:
        endpoint: endpoint of the server.
        tracing: makes spans of calls; None: no spans.
        closed: returns whether the client is closed.
    """

    def __init__(self, endpoint: Endpoint, tracing: Tracing | None, closed: Callable[[], bool]) -> None:
        self._channel = (
            grpc.insecure_channel(endpoint.target, endpoint.options)
            if endpoint.credentials is None
            else grpc.secure_channel(endpoint.target, endpoint.credentials, endpoint.options)
        )
        self._metadata = endpoint.metadata
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
        except (grpc.RpcError, ValueError) as error:
            # Calls on a closed channel raise ValueError, or end as cancelled.
            if self._closed():
                raise closed_error() from None
            if isinstance(error, grpc.RpcError):
                raise Failed(status_of(error)) from None
            raise

    def call(self, method: str, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        """Makes a call: returns the response, or for a `STREAMING` method an iterator of responses."""
        return self._methods[method](request, timeout=timeout_s, metadata=metadata)

    def open_stream(self, messages: Iterator[bytes]) -> Any:
        """Begins a session stream that sends `messages`."""
        return self._session_stream(messages, metadata=self._metadata)

    def read_stream(
        self,
        call: Any,
        stream: StreamConnection,
        receive: Callable[[StreamConnection, sequence_pb2.SessionStreamResponse], None],
        lock: AbstractContextManager[Any],
    ) -> Status:
        """Passes the responses of a session stream to `receive`, with the lock held; returns why it ended."""
        try:
            for response in call:
                with lock:
                    receive(stream, response)
        except grpc.RpcError as error:
            return status_of(error)
        return ENDED

    def close(self) -> None:
        """Closes the channel and ends its calls."""
        self._channel.close()
