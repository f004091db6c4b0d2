"""Serves a bare echo on gRPC's completion queue, which measures the cost of this transport alone.

The queue is private to grpcio; `statewise.service.transport.queue` says what the server uses of it. As in the
server, the thread that polls reads the sockets, and the C library keeps the memory of large messages.
"""

import time
from collections import deque
from typing import Any

import statewise.service  # noqa: F401  # before grpc

# isort: split
from grpc._cython import cygrpc

from statewise.service.process import keep_freed_pages

_POSTED = 8
_WAIT_S = 60.0


class Echo:
    """One stream whose messages are sent back, one at a time."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._waiting: deque[bytes] = deque()
        self._is_sending = False
        self._beginning: tuple[Any, ...] = (cygrpc.SendInitialMetadataOperation((), 0),)
        self._start(lambda _: None, cygrpc.ReceiveCloseOnServerOperation(0))
        self._read()

    def _start(self, ended: Any, *operations: Any) -> None:
        self._call.start_server_batch(operations, ended)

    def _respond(self, ended: Any, operation: Any) -> None:
        beginning, self._beginning = self._beginning, ()
        self._start(ended, *beginning, operation)

    def _read(self) -> None:
        self._start(self._received, cygrpc.ReceiveMessageOperation(0))

    def _received(self, event: Any) -> None:
        message = event.batch_operations[0].message()
        if message is None:
            self._respond(lambda _: None, cygrpc.SendStatusFromServerOperation((), 0, b"", 0))
            return
        self._waiting.append(message)
        self._send()
        self._read()

    def _send(self) -> None:
        if self._waiting and not self._is_sending:
            self._is_sending = True
            self._respond(self._sent, cygrpc.SendMessageOperation(self._waiting.popleft(), 0))

    def _sent(self, _: Any) -> None:
        self._is_sending = False
        self._send()


def main() -> None:
    keep_freed_pages()
    queue = cygrpc.CompletionQueue()
    server = cygrpc.Server(((b"grpc.max_receive_message_length", -1),), False)
    server.register_completion_queue(queue)
    port = server.add_http2_port(b"127.0.0.1:0")
    server.start()

    def begun(event: Any) -> None:
        server.request_call(queue, queue, begun)
        Echo(event.call)

    for _ in range(_POSTED):
        server.request_call(queue, queue, begun)
    print(f"listening on 127.0.0.1:{port}", flush=True)
    while True:
        event = queue.poll(time.time() + _WAIT_S)
        if event.completion_type != cygrpc.CompletionType.queue_timeout:
            event.tag(event)
        event = None


if __name__ == "__main__":
    main()
