"""Implements statewise.v1.SequenceService: each RPC calls one operation, on a stream or by itself."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from statewise.service.auth import Callers, caller
from statewise.service.base import ServiceError, StepResult
from statewise.service.dataplane import CancellationToken, Dataplane
from statewise.service.transport.messages import (
    Context,
    aborts_on_failure,
    fill_step_response,
    write_response,
)
from statewise.service.transport.servicers._sequence_operations import SequenceOperations
from statewise.service.transport.servicers._session_operations import SessionOperations
from statewise.service.transport.servicers._session_stream import SessionStream, serialize_response
from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import Reason


class SequenceServicer(sequence_pb2_grpc.SequenceServiceServicer):
    """statewise.v1.SequenceService.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._settings = dataplane.limits.settings
        self._statistics = dataplane.statistics
        self._sequences = SequenceOperations(dataplane)
        self._sessions = SessionOperations(dataplane)
        self._streams: set[SessionStream] = set()

    def drain(self, grace_s: float) -> None:
        """Tells every stream that the server shuts down."""
        for stream in self._streams:
            stream.drain(grace_s)

    def cut_stalled(self) -> None:
        """Ends the streams whose clients took nothing since the last call of this method."""
        for stream in list(self._streams):
            stream.cut_if_stalled()

    def end_streams_of_unknown(self, callers: Callers) -> None:
        """Ends the streams of callers that the callers file no longer names."""
        for stream in list(self._streams):
            if not callers.knows(stream.caller):
                stream.end(ServiceError(Reason.UNAUTHENTICATED, "the credentials are valid no longer"))

    # --- streams ---

    @aborts_on_failure
    async def SessionStream(self, _: Any, context: Context) -> None:  # type: ignore[override]
        """Operations on sessions, many at once."""
        limit = self._settings.streams
        if len(self._streams) >= limit:
            raise ServiceError(
                Reason.QUEUE_FULL, f"{limit} streams are open, as many as may be", retry_after_s=1.0
            )
        stream = SessionStream(
            context, self._sessions, caller=caller(), requests=self._settings.stream_requests
        )
        self._streams.add(stream)
        self._statistics.streams += 1
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)
            self._statistics.streams -= 1

    @aborts_on_failure
    async def Predict(  # type: ignore[override]
        self, request: sequence_pb2.PredictRequest, context: Context
    ) -> None:
        """Responses leave as buckets of rows finish."""
        await self._write_all(context, self._sequences.predict(request, remaining_s=context.time_remaining()))

    @aborts_on_failure
    async def Generate(  # type: ignore[override]
        self, request: sequence_pb2.GenerateRequest, context: Context
    ) -> None:
        """Responses leave as rows emit."""
        await self._write_all(
            context, self._sequences.generate(request, remaining_s=context.time_remaining())
        )

    @aborts_on_failure
    async def GenerateSessions(  # type: ignore[override]
        self, request: sequence_pb2.GenerateSessionsRequest, context: Context
    ) -> None:
        """Responses leave as sessions emit."""
        generated = self._sessions.generate(
            request, CancellationToken(), remaining_s=context.time_remaining()
        )
        await self._write_all(context, generated)

    # --- unary calls ---

    @aborts_on_failure
    async def Step(self, request: sequence_pb2.StepRequest, context: Context) -> sequence_pb2.StepResponse:
        """Waits for the result; a client that leaves cancels the step."""
        replied: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()

        def reply(result: StepResult | ServiceError) -> None:
            if not replied.done():
                replied.set_result(result)

        batch = self._sessions.step(request, reply, remaining_s=context.time_remaining())
        try:
            result = await replied
        except asyncio.CancelledError:
            if batch is not None:
                batch.cancelled = True
            raise
        if isinstance(result, ServiceError):
            raise result
        response = sequence_pb2.StepResponse()
        fill_step_response(response, result)
        return response

    @aborts_on_failure
    async def OpenSessions(
        self, request: sequence_pb2.OpenSessionsRequest, _: Context
    ) -> sequence_pb2.OpenSessionsResponse:
        """As `open` on a stream."""
        return await self._sessions.open(request)

    @aborts_on_failure
    async def ResumeSessions(
        self, request: sequence_pb2.ResumeSessionsRequest, _: Context
    ) -> sequence_pb2.ResumeSessionsResponse:
        """As `resume` on a stream."""
        return await self._sessions.resume(request)

    @aborts_on_failure
    async def CloseSessions(
        self, request: sequence_pb2.CloseSessionsRequest, _: Context
    ) -> sequence_pb2.CloseSessionsResponse:
        """As `close` on a stream."""
        return await self._sessions.close(request)

    @aborts_on_failure
    async def RestoreSessions(
        self, request: sequence_pb2.RestoreSessionsRequest, _: Context
    ) -> sequence_pb2.RestoreSessionsResponse:
        """As `restore` on a stream."""
        return await self._sessions.restore(request)

    @aborts_on_failure
    async def ForkSessions(
        self, request: sequence_pb2.ForkSessionsRequest, _: Context
    ) -> sequence_pb2.ForkSessionsResponse:
        """As `fork` on a stream."""
        return await self._sessions.fork(request)

    @aborts_on_failure
    async def RewindSessions(
        self, request: sequence_pb2.RewindSessionsRequest, _: Context
    ) -> sequence_pb2.RewindSessionsResponse:
        """As `rewind` on a stream."""
        return await self._sessions.rewind(request)

    @aborts_on_failure
    async def SnapshotSessions(
        self, request: sequence_pb2.SnapshotSessionsRequest, _: Context
    ) -> sequence_pb2.SnapshotSessionsResponse:
        """As `snapshot` on a stream."""
        return await self._sessions.snapshot(request)

    async def _write_all(self, context: Context, responses: AsyncGenerator[Any]) -> None:
        async with aclosing(responses):
            async for response in responses:
                await write_response(context, response, stall_s=self._settings.stall_s)


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
