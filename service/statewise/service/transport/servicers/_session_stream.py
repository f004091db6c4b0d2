"""Serves one SessionStream: reads requests, starts their operations, and sends replies as they come.

While a given number of requests is unanswered, or long replies are not sent, the stream reads no further
request, and HTTP/2 flow control holds the client back. When the client leaves, operations that have not begun
are dropped. The transport hands over each message as it comes, every operation but a step has a task, and a
reply is sent by the code that has it, without a task. All tasks end with the stream.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from statewise.service.auth import Identity
from statewise.service.base import ServiceError, StepBatch, StepResult, server_fault
from statewise.service.dataplane import CancellationToken
from statewise.service.telemetry import fields
from statewise.service.transport.calls import Call
from statewise.service.transport.messages import encode_step, fill_step_response, status_of
from statewise.service.transport.servicers._message_sender import MessageSender
from statewise.service.transport.servicers._session_operations import SessionOperations
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, TensorError

_log = logging.getLogger(__name__)

_UNSENT_MESSAGES = 4
"""Longest replies that may be unsent while a further request is read."""

_LONG_REPLIES = {"snapshot", "read_states", "list_checkpoints"}
"""Operations whose requests are short however long their replies are."""

Request = sequence_pb2.SessionStreamRequest
Response = sequence_pb2.SessionStreamResponse


class SessionStream:
    """One open stream.

    Args:
        call: The call.
        operations: Perform the requests.
        caller: Who opened the stream.
        requests: Unanswered requests at most.
        message_bytes: Bytes of a reply at most.
    """

    def __init__(
        self,
        call: Call,
        operations: SessionOperations,
        *,
        caller: Identity,
        requests: int,
        message_bytes: int,
    ) -> None:
        self.caller = caller
        self._call = call
        self._operations = operations
        self._requests = requests
        self._message_bytes = message_bytes
        self._awaited_bytes = 0
        """Bytes of replies to unanswered requests, as far as they are known to be large."""
        self._sender = MessageSender(call, sent=self._read_on)
        self._steps: dict[int, StepBatch | None] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._cancellations: dict[int, CancellationToken] = {}
        self._is_reading = False
        self._over = asyncio.Event()
        self._reader_done = False
        self._draining = False
        self._failure: ServiceError | None = None
        self._task: asyncio.Task[Any] | None = None
        self._begun_before = 0

    async def run(self) -> None:
        """Serves until the client has ended its requests, or the server drains, and all are answered.

        Raises:
            ServiceError: DRAINING: all requests so far are answered, and the server shuts down; BAD_REQUEST:
                a message is no request; or the failure given to `end`.
        """
        self._task = asyncio.current_task()
        self._read_on()
        try:
            await self._over.wait()
            if self._failure is None:
                await self._sender.flush()
        finally:
            self._over.set()
            self._sender.abandon()
            for batch in self._steps.values():
                if batch is not None:
                    batch.cancelled = True
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        if not self._reader_done:
            raise ServiceError(Reason.DRAINING, "the server is shutting down; connect to another one")

    def drain(self, grace_s: float) -> None:
        """Tells the client that the server shuts down; the stream ends when all requests are answered."""
        if self._draining:
            return
        self._draining = True
        notice = Response()
        notice.draining.grace.FromNanoseconds(int(grace_s * 1e9))
        self._sender.post(notice.SerializeToString())
        self._end_when_answered()

    def end(self, failure: ServiceError) -> None:
        """Ends the stream at once with a failure; unanswered requests get no reply."""
        self._failure = failure
        self._over.set()

    def cut_if_stalled(self) -> None:
        """Ends the stream if the client took nothing of one reply since the last call of this method."""
        begun = self._sender.begun
        if self._sender.busy and begun == self._begun_before and self._task is not None:
            self._task.cancel()
        self._begun_before = begun

    def _read_on(self) -> None:
        """Reads the next message, unless one is being read or too much is unanswered or not sent."""
        if self._is_reading or self._reader_done or self._over.is_set():
            return
        unsent_bytes = self._awaited_bytes + self._sender.waiting_bytes
        if (
            len(self._steps) + len(self._tasks) + self._sender.waiting < self._requests
            and unsent_bytes < _UNSENT_MESSAGES * self._message_bytes
        ):
            self._is_reading = True
            self._call.read(self._received)

    def _received(self, raw: bytes | None) -> None:
        if self._over.is_set():
            return
        self._is_reading = False
        if raw is None:
            self._reader_done = True
            self._end_when_answered()
            return
        try:
            request = Request.FromString(raw)
        except DecodeError as error:
            self._failure = ServiceError(Reason.BAD_REQUEST, f"the request cannot be read: {error}")
            self._reader_done = True
            self._end_when_answered()
            return
        self._begin(request)
        self._read_on()

    def _end_when_answered(self) -> None:
        if (self._reader_done or self._draining) and not self._steps and not self._tasks:
            self._over.set()

    def _begin(self, request: Request) -> None:
        number = request.request_id
        operation = request.WhichOneof("operation")
        try:
            if number == 0 or number in self._steps or number in self._tasks:
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
                cancellation = self._cancellations[number] = CancellationToken()
                self._tasks[number] = asyncio.create_task(
                    self._generate(number, request.generate, cancellation)
                )
            elif operation is None:
                raise ServiceError(Reason.BAD_REQUEST, "the request names no operation")
            else:
                awaited_bytes = self._message_bytes if operation in _LONG_REPLIES else 0
                self._awaited_bytes += awaited_bytes
                performing = self._perform(number, operation, getattr(request, operation), awaited_bytes)
                self._tasks[number] = asyncio.create_task(performing)
        except ServiceError as error:
            self._answered(Response(request_id=number, error=status_of(error)))
        except Exception as error:
            _log.error("a request failed", exc_info=error, extra=self._fields(number))
            self._answered(Response(request_id=number, error=status_of(server_fault())))

    def _begin_step(self, number: int, request: sequence_pb2.StepRequest) -> None:
        self._steps[number] = None
        try:
            batch = self._operations.step(request, partial(self._answer_step, number))
        except BaseException:
            del self._steps[number]
            raise
        if number in self._steps:
            self._steps[number] = batch
            if batch is not None:
                batch.request_id = number
                self._awaited_bytes += batch.output_bytes

    def _answer_step(self, number: int, result: StepResult | ServiceError) -> None:
        batch = self._steps.pop(number)
        if batch is not None:
            self._awaited_bytes -= batch.output_bytes
        if isinstance(result, ServiceError):
            self._answered(Response(request_id=number, error=status_of(result)))
            return
        try:
            response = _step_response(number, result)
        except TensorError as error:
            _log.error("a result cannot be sent", exc_info=error, extra=self._fields(number))
            response = Response(request_id=number, error=status_of(server_fault()))
        self._answered(response)

    async def _perform(self, number: int, operation: str, request: Any, awaited_bytes: int) -> None:
        try:
            reply = await getattr(self._operations, operation)(request)
            response = Response(request_id=number, **{operation: reply})
        except ServiceError as error:
            response = Response(request_id=number, error=status_of(error))
        except Exception as error:
            _log.error("%s failed", operation, exc_info=error, extra=self._fields(number))
            response = Response(request_id=number, error=status_of(server_fault()))
        del self._tasks[number]
        self._awaited_bytes -= awaited_bytes
        self._answered(response)

    def _fields(self, number: int) -> dict[str, Any]:
        return fields(request_id=number, peer=self._call.peer())

    async def _generate(
        self, number: int, request: sequence_pb2.GenerateSessionsRequest, cancellation: CancellationToken
    ) -> None:
        try:
            response = await self._send_parts(number, self._operations.generate(request, cancellation))
        except ServiceError as error:
            response = Response(request_id=number, error=status_of(error))
        except Exception as error:
            _log.error("generating failed", exc_info=error)
            response = Response(request_id=number, error=status_of(server_fault()))
        del self._tasks[number], self._cancellations[number]
        self._answered(response)

    async def _send_parts(
        self, number: int, generated: AsyncGenerator[sequence_pb2.GenerateSessionsResponse]
    ) -> Response:
        """Sends all parts but the last. Returns the last."""
        response = Response()
        async with aclosing(generated):
            async for part in generated:
                response = Response(request_id=number, generate=part)
                if part.done:
                    continue
                self._sender.post(response.SerializeToString())
                if self._sender.waiting >= self._requests:
                    await self._sender.flush()
        return response

    def _cancel(self, number: int) -> None:
        """Cancels a step or a generation; the other operations are too short to be cancelled."""
        under_way = self._steps.get(number) or self._cancellations.get(number)
        if under_way is not None:
            under_way.cancelled = True

    def _answered(self, response: Response | bytes) -> None:
        """Sends the last reply to a request, which the caller has removed from the unanswered ones."""
        self._sender.post(response if isinstance(response, bytes) else response.SerializeToString())
        self._read_on()
        if self._reader_done or self._draining:
            self._end_when_answered()


def _step_response(number: int, result: StepResult) -> Response | bytes:
    if len(result.outputs) == 1 and not result.failures:
        [(name, output)] = result.outputs.items()
        if output.size:
            return encode_step(number, name, output, result.durable_positions)
    response = Response(request_id=number)
    response.step.SetInParent()
    fill_step_response(response.step, result)
    return response
