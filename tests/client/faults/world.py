"""Moves a client core and its server one event at a time: messages, replies, timers, cuts, restarts."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.client.faults.sum_server import MODEL, Request, Response, SumServer

from statewise.client.core import ClientCore
from statewise.client.groups import GroupCore
from statewise.client.requests import ClientOptions, GenerateOptions, Plan
from statewise.client.sessions import SessionCore, SessionGeneration
from statewise.client.stream import Operation, PendingCall, StreamConnection
from statewise.client.values import Status
from statewise.v1 import admin_pb2, model_pb2, sequence_pb2

T = TypeVar("T")

RESET = Status("UNAVAILABLE", message="connection reset")


@dataclass
class World:
    """A client core, a server, and the connections between them, moved one event at a time.

    Attributes:
        server: where the next connection leads.
        prefix: of the ids of anonymous sessions.
    """

    replay_bytes: int = 1 << 20
    retry_for_s: float = 1e9
    server: SumServer = field(default_factory=SumServer)
    replies: deque[tuple[StreamConnection, Response]] = field(default_factory=deque)
    timers: deque[Callable[[], None]] = field(default_factory=deque)
    stream: StreamConnection | None = None
    retired: list[StreamConnection] = field(default_factory=list)
    prefix: str = "session"
    store_kind: str = "sqlite"
    now_s: float = 0.0
    connections: int = 0

    def __post_init__(self) -> None:
        self._server_of: dict[int, SumServer] = {}
        self.server.has_store = self.store_kind != "none"
        ids = iter(f"{self.prefix} {number}" for number in range(1000))
        self.core = ClientCore(
            self,
            ClientOptions(
                timeout_s=None,
                retry_for_s=self.retry_for_s,
                replay_bytes=self.replay_bytes,
                clock=lambda: self.now_s,
                random=lambda: 0.5,
                new_id=lambda: next(ids),
            ),
        )

    # The transport, which the core calls.

    def connect(self, stream: StreamConnection) -> None:
        self.connections += 1
        self.stream = stream
        self._server_of[stream.number] = self.server

    def wake(self, stream: StreamConnection) -> None:
        pass

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        def fire() -> None:
            self.now_s += delay_s
            callback()

        self.timers.append(fire)

    def future(self) -> Any:
        return Future()

    # Events. Each returns whether there was anything to do.

    def send(self) -> bool:
        """One message reaches the server, which replies."""
        message = self.stream.take() if self.stream else None
        if message is None or self.stream is None:
            return False
        request = Request.FromString(message)
        server = self._server_of[self.stream.number]
        self.replies.extend((self.stream, reply) for reply in server.answer(request))
        return True

    def deliver(self) -> bool:
        """One reply reaches the client."""
        if not self.replies:
            return False
        self.core.multiplexer.receive(*self.replies.popleft())
        return True

    def cut(self, status: Status = RESET) -> bool:
        """The connections break; replies on their way are lost."""
        streams = [*self.retired, *([] if self.stream is None else [self.stream])]
        self.stream = None
        self.retired.clear()
        self.replies.clear()
        for stream in streams:
            self.core.multiplexer.broken(stream, status)
        return bool(streams)

    def drain(self, successor: SumServer) -> None:
        """The server says that it shuts down: new requests go to another one, replies still come."""
        stream, self.stream = self.stream, None
        self.server = successor
        if stream is not None:
            self.retired.append(stream)
            self.core.multiplexer.receive(stream, Response(draining=sequence_pb2.Draining()))

    def leave(self) -> bool:
        """The server drains, and a successor on its store takes over."""
        self.drain(self.server.successor())
        return True

    def is_connected_to(self, server: SumServer) -> bool:
        """Whether a connection leads to a server."""
        streams = [*self.retired, *([] if self.stream is None else [self.stream])]
        return any(self._server_of[stream.number] is server for stream in streams)

    def kill(self) -> bool:
        """The server is killed and restarted; only what it stored is left."""
        self.server.forget()
        return self.cut()

    def store(self) -> bool:
        """The server stores its sessions."""
        self.server.store()
        return True

    def move(self) -> bool:
        """The connection breaks, and the next one leads to another replica."""
        self.server.void()
        return self.cut()

    def wait(self) -> bool:
        """The next timer expires."""
        if not self.timers:
            return False
        self.timers.popleft()()
        return True

    def settle(self) -> None:
        """Moves messages, replies and timers until none is left."""
        while self.send() or self.deliver() or self.wait():
            pass

    def run(self, plan: Plan[T]) -> T:
        """Carries a plan out without faults."""
        outcome = None
        while True:
            try:
                effect = plan.send(outcome)
            except StopIteration as stop:
                value: T = stop.value
                return value
            outcome = self._perform(effect)

    def submit(self, operation: Operation[T] | PendingCall[T]) -> PendingCall[T]:
        """Begins an operation."""
        return self.core.multiplexer.submit(operation)

    def run_operation(self, operation: Operation[T]) -> T:
        """Carries an operation out without faults."""
        pending_call = self.submit(operation)
        self.settle()
        result: T = pending_call.future.result(0)
        return result

    def session(self) -> SessionCore:
        """Opens a session."""
        return self.run(self.core.sessions.open("sum", None, None, None))

    def group(self, count: int) -> GroupCore:
        """Opens a group of sessions."""
        return self.run(
            self.core.groups.open(
                "sum",
                count=count,
                session_ids=None,
                version=None,
                timeout_s=None,
            )
        )

    def _perform(self, effect: Any) -> Any:
        if hasattr(effect, "operation"):
            pending_call = self.submit(effect.operation)
            self.settle()
            return pending_call.future.result(0)
        return self.answer(effect)

    def answer(self, effect: Any) -> Any:
        """Answers a call outside the session stream."""
        if effect.method == "GetServer":
            return admin_pb2.GetServerResponse(store=self.store_kind)
        assert effect.method == "GetModel"
        return model_pb2.GetModelResponse(model=MODEL)


def generation_of(session: SessionCore, number: int) -> SessionGeneration:
    """A generation of `number` values, which also is its seed."""
    return SessionGeneration.of(
        session.model, GenerateOptions(number, 1.0, None, number), text=False, timeout_s=None
    )


def collecting(values: list[int]) -> Callable[[list[tuple[Any, int]]], None]:
    """Appends the values of each chunk of a generation to a list."""
    return lambda chunk: values.extend(int(value) for value, _ in chunk)
