"""One SessionStream: reads requests, hands them on, writes replies as they come.

No behaviour of its own beyond order and bounds: at most so many requests are unanswered, then nothing more is
read, and HTTP/2 flow control holds the sender back. When the caller leaves, what it asked for and has not
begun is dropped. One task reads, replies are sent by whoever has them, and each control request has a task;
all end with the stream.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from statewise.service.auth import Identity
from statewise.service.base import ServiceError, StepBatch, StepResult, server_fault
from statewise.service.dataplane import CancellationToken
from statewise.service.telemetry import fields
from statewise.service.transport.messages._responses import fill_step_response
from statewise.service.transport.messages._status import status_of
from statewise.service.transport.messages._step_encoding import encode_step
from statewise.service.transport.servicers._message_sender import MessageSender
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, TensorError

_log = logging.getLogger(__name__)

Request = sequence_pb2.SessionStreamRequest
Response = sequence_pb2.SessionStreamResponse
Barrier = Callable[[Any], Awaitable[Any]]
StepReply = Callable[[StepResult | ServiceError], None]
Step = Callable[[sequence_pb2.StepRequest, StepReply], StepBatch | None]
Generate = Callable[[Any, CancellationToken], AsyncGenerator[sequence_pb2.GenerateSessionsResponse]]


def serialize_response(response: Response | bytes) -> bytes:
    """What a stream sends: messages, or what is encoded already."""
    return response if isinstance(response, bytes) else response.SerializeToString()


class SessionStream:
    """One open stream.

    Args:
        context: The RPC.
        caller: Whose it is.
        step: Asks for a step; calls back with the result.
        generate: Asks for a generation, which its ticket gives up; replies piece by piece.
        controls: The other operations by their name in the request.
        requests: Unanswered requests at most.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Request, Response | bytes],
        *,
        caller: Identity,
        step: Step,
        generate: Generate,
        controls: dict[str, Barrier],
        requests: int,
    ) -> None:
        self.caller = caller
        self._context = context
        self._step = step
        self._generate = generate
        self._controls = controls
        self._requests = requests
        self._writer = MessageSender(context.write, sent=self._make_room, failed=self._cannot_write)
        self._frames: dict[int, StepBatch | None] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._tickets: dict[int, CancellationToken] = {}
        self._room: asyncio.Future[None] | None = None
        self._over = asyncio.Event()
        self._reader_done = False
        self._draining = False
        self._failure: ServiceError | None = None
        self._task: asyncio.Task[Any] | None = None
        self._begun_before = 0

    async def run(self) -> None:
        """Serves the stream until the caller is done and everything is answered, or the server drains.

        Raises:
            ServiceError: DRAINING: everything asked so far is answered, and the server goes away;
                BAD_REQUEST: something came that is no request; or as `end` was told.
        """
        self._task = asyncio.current_task()
        reader = asyncio.create_task(self._read())
        try:
            await self._over.wait()
            if self._failure is None:
                await self._writer.flush()
        finally:
            reader.cancel()
            self._writer.abandon()
            for frame in self._frames.values():
                if frame is not None:
                    frame.cancelled = True
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(reader, *self._tasks.values(), return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        if not self._reader_done:
            raise ServiceError(Reason.DRAINING, "the server is shutting down; connect to another one")

    def drain(self, grace_s: float) -> None:
        """Tells the caller that the server goes away, and ends the stream when all is answered."""
        self._draining = True
        news = Response()
        news.draining.grace.FromNanoseconds(int(grace_s * 1e9))
        self._writer.post(news)
        self._end_when_answered()

    def end(self, failure: ServiceError) -> None:
        """Ends the stream at once, with what is not answered yet."""
        self._failure = failure
        self._over.set()

    def cut_if_stalled(self) -> None:
        """Ends the stream where one reply has waited for its caller since this was last called."""
        begun = self._writer.begun
        if self._writer.busy and begun == self._begun_before and self._task is not None:
            self._task.cancel()
        self._begun_before = begun

    async def _read(self) -> None:
        try:
            while True:
                while len(self._frames) + len(self._tasks) + self._writer.waiting >= self._requests:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                request = await self._context.read()
                if not isinstance(request, Request):  # end of the requests
                    break
                self._begin(request)
        except DecodeError as error:
            self._failure = ServiceError(Reason.BAD_REQUEST, f"the request cannot be read: {error}")
        except Exception as error:
            # The connection broke; the RPC's own cancellation says the rest.
            _log.debug("a stream ended while reading: %s", error)
        self._reader_done = True
        self._end_when_answered()

    def _cannot_write(self, error: Exception) -> None:
        if isinstance(error, grpc.aio.BaseError):
            # The connection broke; the RPC's own cancellation says the rest.
            _log.debug("a stream ended while writing: %s", error)
        else:
            _log.error("a reply could not be sent", exc_info=error)
            self.end(server_fault())

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _end_when_answered(self) -> None:
        if (self._reader_done or self._draining) and not self._frames and not self._tasks:
            self._over.set()

    def _begin(self, request: Request) -> None:
        number = request.request_id
        operation = request.WhichOneof("operation")
        try:
            if number == 0 or number in self._frames or number in self._tasks:
                raise ServiceError(
                    Reason.BAD_REQUEST,
                    f"expected a request_id other than 0 that no unanswered request has; got {number}",
                )
            if operation == "step":
                self._begin_step(number, request.step)
            elif operation == "cancel":
                self._cancel(request.cancel.target_request_id)
                self._answered(Response(request_id=number, cancel=sequence_pb2.CancelResponse()))
            elif operation == "generate":
                ticket = self._tickets[number] = CancellationToken()
                self._tasks[number] = asyncio.create_task(self._generated(number, request.generate, ticket))
            elif operation is None:
                raise ServiceError(Reason.BAD_REQUEST, "the request names no operation")
            else:
                call = self._control(number, operation, getattr(request, operation))
                self._tasks[number] = asyncio.create_task(call)
        except ServiceError as error:
            self._answered(Response(request_id=number, error=status_of(error)))
        except Exception as error:
            _log.error("a request failed", exc_info=error, extra=self._fields(number))
            self._answered(Response(request_id=number, error=status_of(server_fault())))

    def _begin_step(self, number: int, request: sequence_pb2.StepRequest) -> None:
        self._frames[number] = None
        try:
            frame = self._step(request, partial(self._answer_step, number))
        except BaseException:
            del self._frames[number]
            raise
        if number in self._frames:
            self._frames[number] = frame
            if frame is not None:
                frame.request_id = number

    def _answer_step(self, number: int, result: StepResult | ServiceError) -> None:
        del self._frames[number]
        if isinstance(result, ServiceError):
            self._answered(Response(request_id=number, error=status_of(result)))
            return
        try:
            response = _step_response(number, result)
        except TensorError as error:
            _log.error("a result has no place on the wire", exc_info=error, extra=self._fields(number))
            response = Response(request_id=number, error=status_of(server_fault()))
        self._answered(response)

    async def _control(self, number: int, operation: str, request: Any) -> None:
        try:
            reply = await self._controls[operation](request)
            response = Response(request_id=number, **{operation: reply})
        except ServiceError as error:
            response = Response(request_id=number, error=status_of(error))
        except Exception as error:
            _log.error("%s failed", operation, exc_info=error, extra=self._fields(number))
            response = Response(request_id=number, error=status_of(server_fault()))
        del self._tasks[number]
        self._answered(response)

    def _fields(self, number: int) -> dict[str, Any]:
        return fields(request_id=number, peer=self._context.peer())

    async def _generated(
        self, number: int, request: sequence_pb2.GenerateSessionsRequest, ticket: CancellationToken
    ) -> None:
        response = Response()
        try:
            async with aclosing(self._generate(request, ticket)) as pieces:
                async for piece in pieces:
                    response = Response(request_id=number, generate=piece)
                    if not piece.done:
                        self._writer.post(response)
                        if self._writer.waiting >= self._requests:
                            await self._writer.flush()
        except ServiceError as error:
            response = Response(request_id=number, error=status_of(error))
        except Exception as error:
            _log.error("generating failed", exc_info=error)
            response = Response(request_id=number, error=status_of(server_fault()))
        del self._tasks[number], self._tickets[number]
        self._answered(response)

    def _cancel(self, number: int) -> None:
        """Steps and generations not finished are dropped; the other operations are too short to be."""
        asked = self._frames.get(number) or self._tickets.get(number)
        if asked is not None:
            asked.cancelled = True

    def _answered(self, response: Response | bytes) -> None:
        """Sends a reply whose request is counted no longer."""
        self._writer.post(response)
        if self._room is not None:
            self._make_room()
        if self._reader_done or self._draining:
            self._end_when_answered()


def _step_response(number: int, result: StepResult) -> Response | bytes:
    if len(result.outputs) == 1 and not result.failures:
        [(name, output)] = result.outputs.items()
        if output.size:
            return encode_step(number, name, output)
    response = Response(request_id=number)
    response.step.SetInParent()
    fill_step_response(response.step, result)
    return response
