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
        self._status_of = endpoint.status_of
        self._tracing = tracing
        self._closed = closed
        self._methods = methods(self._channel)
        self._session_stream = session_stream(self._channel)
        self._ended = False
        self._under_way: set[threading.Event] = set()
        """An event for each call, and for each start of a call; set at its end."""
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """gRPC's threads, which hold locks of calls while they send messages and take replies."""

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
                raise Failed(self._status_of(error)) from None
            raise

    def call(self, method: str, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        """Makes a call: returns the response, or for a `STREAMING` method an iterator of responses."""
        with self._noting_end():
            call = self._methods[method](request, timeout=timeout_s, metadata=metadata)
            return self._noted(call) if method in STREAMING else call

    def open_stream(self, messages: Iterator[bytes]) -> Any:
        """Begins a session stream that sends `messages`."""
        with self._noting_end():
            sending = threading.Event()
            self._under_way.add(sending)
            try:
                call = self._session_stream(self._send(messages, sending), metadata=self._metadata)
            except BaseException:
                self._under_way.discard(sending)
                raise
            return self._noted(call)

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
            return self._status_of(error)
        return ENDED

    def close(self) -> None:
        """Closes the channel and ends its calls; returns when no thread can hold a lock of gRPC any more.

        A thread that the end of the interpreter stops keeps its locks, and destructors then wait for ever.
        """
        self._ended = True
        self._channel.close()
        for ended in list(self._under_way):
            ended.wait(_END_WAIT_S)
        for thread in list(self._threads):
            thread.join(_END_WAIT_S)

    @contextmanager
    def _noting_end(self) -> Iterator[None]:
        """Has `close` wait for a call, or for its start, which takes locks too; none begins after `close`."""
        ended = threading.Event()
        self._under_way.add(ended)
        try:
            if self._ended:
                raise ValueError("the channel is closed")
            yield
        finally:
            self._under_way.discard(ended)
            ended.set()

    def _noted(self, call: Any) -> Any:
        """Has `close` wait for a call that goes on, and for the thread that takes its replies."""
        ended = threading.Event()
        self._under_way.add(ended)

        def end() -> None:
            self._threads.add(threading.current_thread())
            self._under_way.discard(ended)
            ended.set()

        if not call.add_callback(end):
            self._under_way.discard(ended)
        return call

    def _send(self, messages: Iterator[bytes], sending: threading.Event) -> Iterator[bytes]:
        """Passes messages on in the thread that gRPC starts for them; `close` waits for that thread."""
        self._threads.add(threading.current_thread())
        self._under_way.discard(sending)
        sending.set()
        yield from messages
