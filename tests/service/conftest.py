"""A caller that knows the contract and nothing else: no client library, no retries."""

import itertools
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from statewise.service import Settings
from statewise.service.server import Server
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2_grpc, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc
from statewise.wire import from_tensor, pack_uint32, pack_uint64, to_tensor

Array = NDArray[Any]


class _Showing:
    """A channel all of whose calls carry the same metadata."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str]]) -> None:
        self._channel, self._metadata = channel, metadata

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        make = getattr(self._channel, kind)
        return lambda *arguments, **options: partial(make(*arguments, **options), metadata=self._metadata)


class Caller:
    """One channel, its stubs, and at most one session stream, which opens with its first message."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.sequences = sequence_pb2_grpc.SequenceServiceStub(channel)
        self.models = model_pb2_grpc.ModelServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self._numbers = itertools.count(1)

    @cached_property
    def stream(self) -> Any:
        """The session stream."""
        return self.sequences.SessionStream()

    @staticmethod
    def frame(
        sessions: Sequence[tuple[int, int]],
        x: Array,
        *,
        steps: Sequence[int] | None = None,
        timeout_s: float | None = None,
    ) -> sequence_pb2.StepRequest:
        """A step of sessions given as (handle, start position), inputs [sum(steps), ...]."""
        request = sequence_pb2.StepRequest(
            handles=pack_uint64([handle for handle, _ in sessions]),
            positions=pack_uint64([position for _, position in sessions]),
            steps=b"" if steps is None else pack_uint32(steps),
            inputs={"x": to_tensor(x)},
        )
        if timeout_s is not None:
            request.timeout.FromNanoseconds(int(timeout_s * 1e9))
        return request

    async def send(self, **operation: Any) -> int:
        """Sends one operation on the stream and gives its request_id."""
        number = next(self._numbers)
        await self.stream.write(sequence_pb2.SessionStreamRequest(request_id=number, **operation))
        return number

    async def receive(self) -> sequence_pb2.SessionStreamResponse:
        """The next reply; fails where the stream has ended."""
        reply = await self.stream.read()
        assert isinstance(reply, sequence_pb2.SessionStreamResponse), "the stream has ended"
        return reply

    async def ask(self, **operation: Any) -> Any:
        """Sends one operation and gives the result it is answered with."""
        number = await self.send(**operation)
        reply = await self.receive()
        assert reply.request_id == number
        return getattr(reply, reply.WhichOneof("result"))

    async def open(self, model: str, *ids: str, version: int = 0) -> list[int]:
        """Opens sessions and gives their handles."""
        request = sequence_pb2.OpenSessionsRequest(model=model, version=version, session_ids=ids)
        opened = await self.ask(open=request)
        assert not opened.errors
        return [session.handle for session in opened.sessions]

    async def step(self, handle: int, position: int, x: Array) -> Array:
        """One session by one step [I] or a chunk [T, I]; gives its outputs."""
        chunk = x if x.ndim > 1 else x[None]
        reply = await self.ask(step=self.frame([(handle, position)], chunk, steps=[len(chunk)]))
        assert not reply.errors, reply.errors
        return from_tensor(reply.outputs["y"])


@pytest.fixture
async def address(repository: Path) -> AsyncIterator[str]:
    """A real server of the small models."""
    async with running_server(repository) as address:
        yield address


@asynccontextmanager
async def _watched(repository: Path, **settings: Any) -> AsyncIterator[tuple[str, str]]:
    chosen = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "grace_s": 5.0, **settings}
    server = Server(Settings(repository=repository, **chosen))
    try:
        yield await server.start(), server.metrics_address
    finally:
        await server.stop()


@pytest.fixture
def watched() -> Callable[..., AbstractAsyncContextManager[tuple[str, str]]]:
    """Serves a repository with metrics; gives the server's address and that of its HTTP side."""
    return _watched


def _ask(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def ask() -> Callable[[str, str], tuple[int, str]]:
    """ask(address, path) -> status and body of an HTTP request; blocks."""
    return _ask


@asynccontextmanager
async def _connect(
    address: str, *, token: str | None = None, tls: grpc.ChannelCredentials | None = None, **options: Any
) -> AsyncIterator[Caller]:
    named = [(f"grpc.{name}", value) for name, value in {"use_local_subchannel_pool": 1, **options}.items()]
    made = (
        grpc.aio.insecure_channel(address, options=named)
        if tls is None
        else grpc.aio.secure_channel(address, tls, options=named)
    )
    async with made as channel:
        yield Caller(channel if token is None else _Showing(channel, [("authorization", f"Bearer {token}")]))


@pytest.fixture
def connect() -> Callable[..., AbstractAsyncContextManager[Caller]]:
    """Connects a caller, on a connection of its own, to an address: with a token, with TLS, or in clear.

    Further keywords are channel options.
    """
    return _connect


@pytest.fixture
async def caller(address: str) -> AsyncIterator[Caller]:
    """A caller connected to that server."""
    async with _connect(address) as caller:
        yield caller


@pytest.fixture
def random() -> np.random.Generator:
    """Seeded."""
    return np.random.default_rng(7)


class Bystander:
    """A session that goes on while others misbehave."""

    def __init__(self, caller: Any, model: Any) -> None:
        self.caller, self._model = caller, model
        self._x = np.random.default_rng(3).standard_normal((10_000, 3)).astype(np.float32)
        self._handle = 0
        self._position = 0

    async def steps(self) -> None:
        """One step more, with the right answer."""
        if not self._handle:
            (self._handle,) = await self.caller.open("steps", "bystander")
        self._position += 1
        y = await self.caller.step(self._handle, self._position - 1, self._x[self._position - 1])
        expected, _ = self._model.run(self._x[: self._position])
        np.testing.assert_allclose(y[0], expected[-1], rtol=1e-6)


@pytest.fixture
def beside(connect: Any, small_model: Any) -> Callable[..., Any]:
    """Connects a bystander; keywords as for `connect`."""

    @asynccontextmanager
    async def watching(address: str, **options: Any) -> AsyncIterator[Bystander]:
        async with connect(address, **options) as caller:
            bystander = Bystander(caller, small_model("steps"))
            await bystander.steps()
            yield bystander
            await bystander.steps()

    return watching
