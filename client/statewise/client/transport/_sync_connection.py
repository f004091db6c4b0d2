"""Makes calls by blocking, and reads session streams in the thread that asks for it."""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc

from statewise.client.stream import Metadata, StreamConnection, Tracing
from statewise.client.transport._channel import (
    ENDED,
    STREAMING,
    Endpoint,
    methods,
    session_stream,
    status_of,
    with_span,
)
from statewise.client.values import Failed, StatewiseError, Status
from statewise.v1 import sequence_pb2

_END_WAIT_S = 5.0


class SyncConnection:
    """A channel whose calls block.

    Args:
        endpoint: endpoint of the server.
        tracing: makes spans of calls; None: no spans.
        closed: returns the exception of a closed client, or None.
    """

    def __init__(
        self, endpoint: Endpoint, tracing: Tracing | None, closed: Callable[[], StatewiseError | None]
    ) -> None:
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
        self._streaming: weakref.WeakSet[Any] = weakref.WeakSet()

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
            if (closed := self._closed()) is not None:
                raise closed from None
            if isinstance(error, grpc.RpcError):
                raise Failed(status_of(error)) from None
            raise

    def call(self, method: str, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        """Makes a call: returns the response, or for a `STREAMING` method an iterator of responses."""
        begun = self._methods[method](request, timeout=timeout_s, metadata=metadata)
        if method in STREAMING:
            self._streaming.add(begun)
        return begun

    def open_stream(self, messages: Iterator[bytes]) -> Any:
        """Begins a session stream that sends `messages`."""
        call = self._session_stream(messages, metadata=self._metadata)
        self._streaming.add(call)
        return call

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
        """Closes the channel and ends its calls; returns when gRPC is done with them."""
        calls = list(self._streaming)
        for call in calls:
            call.cancel()
        for call in calls:
            ended = threading.Event()
            if call.add_callback(ended.set):
                ended.wait(_END_WAIT_S)
        self._channel.close()
