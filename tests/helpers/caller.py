"""Calls a server by the contract alone: no client library, no retries."""

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import grpc
from tests.helpers.arrays import Array

from statewise.v1 import admin_pb2_grpc, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc
from statewise.wire import from_tensor, pack_uint32, pack_uint64, to_tensor

Request = TypeVar("Request")
Answer = TypeVar("Answer")
SessionStream = grpc.aio.StreamStreamCall[
    sequence_pb2.SessionStreamRequest, sequence_pb2.SessionStreamResponse
]


class _WithMetadata:
    """A channel that adds the same metadata to all its calls."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str]]) -> None:
        self._channel, self._metadata = channel, metadata

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        make = getattr(self._channel, kind)
        return lambda *arguments, **options: partial(make(*arguments, **options), metadata=self._metadata)


class Caller:
    """One channel, its stubs, and at most one session stream, which opens with its first message."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.sequences = sequence_pb2_grpc.SequenceServiceStub(channel)
        self.models = model_pb2_grpc.ModelServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self._numbers = itertools.count(1)

    @cached_property
    def stream(self) -> SessionStream:
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
        """Sends one operation on the stream; gives its request_id."""
        number = next(self._numbers)
        await self.stream.write(sequence_pb2.SessionStreamRequest(request_id=number, **operation))
        return number

    async def receive(self) -> sequence_pb2.SessionStreamResponse:
        """Reads the next reply; fails if the stream has ended."""
        reply = await self.stream.read()
        assert isinstance(reply, sequence_pb2.SessionStreamResponse), "the stream has ended"
        return reply

    async def ask(self, **operation: Any) -> Any:
        """Sends one operation; gives the result of its reply."""
        number = await self.send(**operation)
        reply = await self.receive()
        assert reply.request_id == number
        result = reply.WhichOneof("result")
        assert result is not None
        return getattr(reply, result)

    async def open(self, model: str, *ids: str, version: int = 0) -> list[int]:
        """Opens sessions; gives their handles."""
        request = sequence_pb2.OpenSessionsRequest(model=model, version=version, session_ids=ids)
        opened = await self.ask(open=request)
        assert not opened.errors
        return [session.handle for session in opened.sessions]

    async def step(self, handle: int, position: int, x: Array) -> Array:
        """Steps one session by one sample [I] or a chunk [T, I]; gives the outputs."""
        chunk = x if x.ndim > 1 else x[None]
        reply = await self.ask(step=self.frame([(handle, position)], chunk, steps=[len(chunk)]))
        assert not reply.errors, reply.errors
        return from_tensor(reply.outputs["y"])


@asynccontextmanager
async def connect(
    address: str, *, token: str | None = None, tls: grpc.ChannelCredentials | None = None, **options: Any
) -> AsyncIterator[Caller]:
    """Connects a caller, on a connection of its own, to an address: with a token, with TLS, or unencrypted.

    Further keywords are channel options, without their prefix `grpc.`.
    """
    named = [(f"grpc.{name}", value) for name, value in {"use_local_subchannel_pool": 1, **options}.items()]
    made = (
        grpc.aio.insecure_channel(address, options=named)
        if tls is None
        else grpc.aio.secure_channel(address, tls, options=named)
    )
    async with made as channel:
        if token is None:
            yield Caller(channel)
        else:
            metadata = [("authorization", f"Bearer {token}")]
            yield Caller(cast("grpc.aio.Channel", _WithMetadata(channel, metadata)))


async def read_answer(call: grpc.aio.UnaryStreamCall[Request, Answer]) -> Answer:
    """Reads the next answer of a call; fails if there is none."""
    answer = await call.read()
    assert answer is not grpc.aio.EOF, "the call has ended"
    return cast("Answer", answer)
