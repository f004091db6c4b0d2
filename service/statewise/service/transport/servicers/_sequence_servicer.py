"""statewise.v1.SequenceService: whole sequences and sessions."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import grpc

from statewise.service.auth import Callers, caller
from statewise.service.base import RowFailure, ServiceError, StepBatch, StepResult
from statewise.service.dataplane import CancellationToken, Dataplane, OpenedSession
from statewise.service.telemetry import OK
from statewise.service.transport.messages import _responses as convert
from statewise.service.transport.messages._rpc import Context, deliver, reports
from statewise.service.transport.messages._status import row_error
from statewise.service.transport.servicers._request_counts import counted
from statewise.service.transport.servicers._session_operations import SessionOperations
from statewise.service.transport.servicers._session_stream import SessionStream, StepReply, serialize_response
from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import Reason

_Reply = TypeVar(
    "_Reply",
    sequence_pb2.OpenSessionsResponse,
    sequence_pb2.ResumeSessionsResponse,
    sequence_pb2.RestoreSessionsResponse,
    sequence_pb2.ForkSessionsResponse,
    sequence_pb2.RewindSessionsResponse,
)


class SequenceServicer(sequence_pb2_grpc.SequenceServiceServicer):
    """statewise.v1.SequenceService."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._sessions = dataplane.sessions
        self.statistics = dataplane.statistics
        self._writing = SessionOperations(dataplane)
        self._streams: set[SessionStream] = set()
        self._controls: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "open": self._open,
            "resume": self._resume,
            "close": self._close,
            "restore": self._restore,
            "fork": self._fork,
            "rewind": self._rewind,
            "snapshot": self._snapshot,
        }

    def drain(self, grace_s: float) -> None:
        """Tells every stream that the server goes away."""
        for stream in self._streams:
            stream.drain(grace_s)

    def cut_stalled(self) -> None:
        """Ends the streams whose callers have taken nothing since this was last called."""
        for stream in list(self._streams):
            stream.cut_if_stalled()

    def end_streams_of_strangers(self, callers: Callers) -> None:
        """Ends the streams of whoever is a caller no longer."""
        for stream in list(self._streams):
            if not callers.knows(stream.caller):
                stream.end(ServiceError(Reason.UNAUTHENTICATED, "the credentials are valid no longer"))

    @reports
    @counted("predict")
    async def Predict(  # type: ignore[override]
        self, request: sequence_pb2.PredictRequest, context: Context
    ) -> None:
        """Rows go out as their buckets finish."""
        dataplane = self._dataplane
        model = dataplane.models.find(request.model, request.version)
        if request.return_labels:
            convert.check_labels(model)
        deadline_s = self._deadline(request, context.time_remaining())
        predicted = self._writing.predict(model, request, deadline_s, owner=caller().owner)
        async with aclosing(predicted) as responses:
            await self._deliver(context, responses)

    @reports
    async def SessionStream(self, _: Any, context: Context) -> None:  # type: ignore[override]
        """See stream.py."""
        self._check_room_for_a_stream()
        stream = SessionStream(
            context,
            caller=caller(),
            step=self._step,
            generate=self._generate_on_stream,
            controls=self._controls,
            requests=self._dataplane.limits.settings.stream_requests,
        )
        self._streams.add(stream)
        self.statistics.streams += 1
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)
            self.statistics.streams -= 1

    @reports
    async def Step(self, request: sequence_pb2.StepRequest, context: Context) -> sequence_pb2.StepResponse:
        """One frame, one call."""
        replied: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()

        def reply(result: StepResult | ServiceError) -> None:
            if not replied.done():
                replied.set_result(result)

        frame = self._step(request, reply, deadline_s=self._deadline(request, context.time_remaining()))
        try:
            result = await replied
        except asyncio.CancelledError:
            if frame is not None:
                frame.cancelled = True
            raise
        if isinstance(result, ServiceError):
            raise result
        response = sequence_pb2.StepResponse()
        convert.fill_step_response(response, result)
        return response

    @reports
    async def OpenSessions(
        self, request: sequence_pb2.OpenSessionsRequest, _: Context
    ) -> sequence_pb2.OpenSessionsResponse:
        """As on a stream."""
        return await self._open(request)

    @reports
    async def ResumeSessions(
        self, request: sequence_pb2.ResumeSessionsRequest, _: Context
    ) -> sequence_pb2.ResumeSessionsResponse:
        """As on a stream."""
        return await self._resume(request)

    @reports
    async def CloseSessions(
        self, request: sequence_pb2.CloseSessionsRequest, _: Context
    ) -> sequence_pb2.CloseSessionsResponse:
        """As on a stream."""
        return await self._close(request)

    @reports
    @counted("generate")
    async def Generate(  # type: ignore[override]
        self, request: sequence_pb2.GenerateRequest, context: Context
    ) -> None:
        """Pieces go out as they come."""
        ticket = CancellationToken(self._deadline(request, context.time_remaining()))
        generated = self._writing.generate(request, ticket, owner=caller().owner)
        async with aclosing(generated) as responses:
            await self._deliver(context, responses)

    @reports
    @counted("generate_sessions")
    async def GenerateSessions(  # type: ignore[override]
        self, request: sequence_pb2.GenerateSessionsRequest, context: Context
    ) -> None:
        """As on a stream."""
        ticket = CancellationToken(self._deadline(request, context.time_remaining()))
        generated = self._writing.generate_sessions(request, ticket, owner=caller().owner)
        async with aclosing(generated) as responses:
            await self._deliver(context, responses)

    @reports
    async def RestoreSessions(
        self, request: sequence_pb2.RestoreSessionsRequest, _: Context
    ) -> sequence_pb2.RestoreSessionsResponse:
        """As on a stream."""
        return await self._restore(request)

    @reports
    async def ForkSessions(
        self, request: sequence_pb2.ForkSessionsRequest, _: Context
    ) -> sequence_pb2.ForkSessionsResponse:
        """As on a stream."""
        return await self._fork(request)

    @reports
    async def RewindSessions(
        self, request: sequence_pb2.RewindSessionsRequest, _: Context
    ) -> sequence_pb2.RewindSessionsResponse:
        """As on a stream."""
        return await self._rewind(request)

    @reports
    async def SnapshotSessions(
        self, request: sequence_pb2.SnapshotSessionsRequest, _: Context
    ) -> sequence_pb2.SnapshotSessionsResponse:
        """As on a stream."""
        return await self._snapshot(request)

    # --- operations, the same for streams and calls ---

    def _check_room_for_a_stream(self) -> None:
        limit = self._dataplane.limits.settings.streams
        if len(self._streams) >= limit:
            raise ServiceError(
                Reason.QUEUE_FULL, f"{limit} streams are open, as many as may be", retry_after_s=1.0
            )

    def _step(
        self, request: sequence_pb2.StepRequest, reply: StepReply, *, deadline_s: float | None = None
    ) -> StepBatch | None:
        if deadline_s is None:
            deadline_s = self._deadline(request, None)

        requests = self.statistics.requests

        def count_and_reply(result: StepResult | ServiceError) -> None:
            requests["step", result.reason if isinstance(result, ServiceError) else OK] += 1
            reply(result)

        try:
            return self._dataplane.step(
                convert.column_uint64(request.handles, "handles"),
                convert.column_uint64(request.positions, "positions"),
                convert.column_uint32(request.steps, "steps") if request.steps else None,
                convert.arrays(request.inputs),
                owner=caller().owner,
                deadline_s=deadline_s,
                reply=count_and_reply,
            )
        except ServiceError as error:
            requests["step", error.reason] += 1
            raise

    async def _generate_on_stream(
        self, request: sequence_pb2.GenerateSessionsRequest, ticket: CancellationToken
    ) -> AsyncGenerator[sequence_pb2.GenerateSessionsResponse]:
        ticket.deadline_s = self._deadline(request, None)
        outcome: str = OK
        try:
            generated = self._writing.generate_sessions(request, ticket, owner=caller().owner)
            async with aclosing(generated) as responses:
                async for response in responses:
                    yield response
        except ServiceError as error:
            outcome = error.reason
            raise
        except BaseException:
            outcome = Reason.CANCELLED
            raise
        finally:
            self.statistics.requests["generate_sessions", outcome] += 1

    @counted("open")
    async def _open(self, request: sequence_pb2.OpenSessionsRequest) -> sequence_pb2.OpenSessionsResponse:
        begin = await self._writing.beginnings(request)
        opened, failures = await self._sessions.open(
            request.model, request.version, request.session_ids, owner=caller().owner, begin=begin
        )
        return _reply(sequence_pb2.OpenSessionsResponse, opened, failures)

    @counted("resume")
    async def _resume(
        self, request: sequence_pb2.ResumeSessionsRequest
    ) -> sequence_pb2.ResumeSessionsResponse:
        resumed, failures = await self._sessions.resume(request.session_ids, owner=caller().owner)
        return _reply(sequence_pb2.ResumeSessionsResponse, resumed, failures)

    @counted("close")
    async def _close(self, request: sequence_pb2.CloseSessionsRequest) -> sequence_pb2.CloseSessionsResponse:
        failures = await self._sessions.close(
            convert.column_uint64(request.handles, "handles"), owner=caller().owner
        )
        return sequence_pb2.CloseSessionsResponse(errors=[row_error(f) for f in failures])

    @counted("restore")
    async def _restore(
        self, request: sequence_pb2.RestoreSessionsRequest
    ) -> sequence_pb2.RestoreSessionsResponse:
        restored, failures = self._sessions.restore(request.tokens, request.session_ids, owner=caller().owner)
        return _reply(sequence_pb2.RestoreSessionsResponse, restored, failures)

    @counted("fork")
    async def _fork(self, request: sequence_pb2.ForkSessionsRequest) -> sequence_pb2.ForkSessionsResponse:
        handles = convert.column_uint64(request.handles, "handles")
        forked, failures = await self._sessions.fork(handles, request.session_ids, owner=caller().owner)
        return _reply(sequence_pb2.ForkSessionsResponse, forked, failures)

    @counted("rewind")
    async def _rewind(
        self, request: sequence_pb2.RewindSessionsRequest
    ) -> sequence_pb2.RewindSessionsResponse:
        handles = convert.column_uint64(request.handles, "handles")
        positions = convert.column_uint64(request.positions, "positions")
        rewound, failures = await self._sessions.rewind(handles, positions, owner=caller().owner)
        return _reply(sequence_pb2.RewindSessionsResponse, rewound, failures)

    @counted("snapshot")
    async def _snapshot(
        self, request: sequence_pb2.SnapshotSessionsRequest
    ) -> sequence_pb2.SnapshotSessionsResponse:
        handles = convert.column_uint64(request.handles, "handles")
        tokens, failures = await self._sessions.snapshot(handles, owner=caller().owner)
        return sequence_pb2.SnapshotSessionsResponse(tokens=tokens, errors=[row_error(f) for f in failures])

    async def _deliver(self, context: Context, responses: AsyncIterator[Any]) -> None:
        stall_s = self._dataplane.limits.settings.stall_s
        async for response in responses:
            await deliver(context, response, stall_s=stall_s)

    def _deadline(self, request: Any, remaining_s: float | None) -> float | None:
        """The nearer of the call's end, so many seconds away, and the request's own, on our clock."""
        if request.HasField("timeout"):
            own_s = request.timeout.ToNanoseconds() / 1e9
            remaining_s = own_s if remaining_s is None else min(own_s, remaining_s)
        return None if remaining_s is None else self._dataplane.clock() + remaining_s


def add_sequence_service(servicer: SequenceServicer, server: grpc.aio.Server) -> None:
    """Registers the service; replies on session streams may be encoded already."""
    sequence_pb2_grpc.add_SequenceServiceServicer_to_server(servicer, server)
    stream = grpc.stream_stream_rpc_method_handler(
        servicer.SessionStream,
        request_deserializer=sequence_pb2.SessionStreamRequest.FromString,
        response_serializer=serialize_response,
    )
    service = sequence_pb2.DESCRIPTOR.services_by_name["SequenceService"].full_name
    server.add_registered_method_handlers(service, {"SessionStream": stream})


def _reply(
    message: type[_Reply], sessions: Sequence[OpenedSession], failures: Sequence[RowFailure]
) -> _Reply:
    """An answer that holds sessions, and the rows that have none."""
    return message(
        sessions=[convert.session(one) for one in sessions], errors=[row_error(one) for one in failures]
    )
