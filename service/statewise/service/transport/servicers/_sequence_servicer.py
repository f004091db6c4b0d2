"""Implements statewise.v1.SequenceService: each RPC calls one operation, on a stream or by itself."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from statewise.service.auth import Callers, caller
from statewise.service.base import ServiceError, StepResult
from statewise.service.dataplane import CancellationToken, Dataplane
from statewise.service.transport.calls import Call
from statewise.service.transport.messages import fill_step_response
from statewise.service.transport.servicers._sequence_operations import SequenceOperations
from statewise.service.transport.servicers._session_operations import SessionOperations
from statewise.service.transport.servicers._session_stream import SessionStream
from statewise.v1 import sequence_pb2
from statewise.wire import Reason


class SequenceServicer:
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
        self._ends = False

    def drain(self, grace_s: float, *, last: bool = False) -> None:
        """Tells every stream that the server shuts down.

        Args:
            grace_s: How long requests under way may take.
            last: Also tells the streams that begin from now on: nothing else waits for them.
        """
        self._ends = last
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

    async def SessionStream(self, call: Call) -> None:
        """Operations on sessions, many at once."""
        limit = self._settings.streams
        if len(self._streams) >= limit:
            raise ServiceError(
                Reason.QUEUE_FULL, f"{limit} streams are open, as many as may be", retry_after_s=1.0
            )
        settings = self._settings
        stream = SessionStream(
            call,
            self._sessions,
            caller=caller(),
            requests=settings.stream_requests,
            message_bytes=settings.message_bytes,
        )
        self._streams.add(stream)
        self._statistics.streams += 1
        if self._ends:  # gRPC had taken the call before it stopped listening
            stream.drain(0.0)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)
            self._statistics.streams -= 1

    async def Predict(self, request: sequence_pb2.PredictRequest, call: Call) -> None:
        """Responses leave as buckets of rows finish."""
        await self._write_all(call, self._sequences.predict(request, remaining_s=call.remaining_s()))

    async def Generate(self, request: sequence_pb2.GenerateRequest, call: Call) -> None:
        """Responses leave as rows emit."""
        await self._write_all(call, self._sequences.generate(request, remaining_s=call.remaining_s()))

    async def GenerateSessions(self, request: sequence_pb2.GenerateSessionsRequest, call: Call) -> None:
        """Responses leave as sessions emit."""
        generated = self._sessions.generate(request, CancellationToken(), remaining_s=call.remaining_s())
        await self._write_all(call, generated)

    # --- unary calls ---

    async def Step(self, request: sequence_pb2.StepRequest, call: Call) -> sequence_pb2.StepResponse:
        """Waits for the result; a client that leaves cancels the step."""
        replied: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()

        def reply(result: StepResult | ServiceError) -> None:
            if not replied.done():
                replied.set_result(result)

        batch = self._sessions.step(request, reply, remaining_s=call.remaining_s())
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

    async def OpenSessions(
        self, request: sequence_pb2.OpenSessionsRequest, call: Call
    ) -> sequence_pb2.OpenSessionsResponse:
        """As `open` on a stream."""
        return await self._sessions.open(request, remaining_s=call.remaining_s())

    async def ResumeSessions(
        self, request: sequence_pb2.ResumeSessionsRequest, _: Call
    ) -> sequence_pb2.ResumeSessionsResponse:
        """As `resume` on a stream."""
        return await self._sessions.resume(request)

    async def CloseSessions(
        self, request: sequence_pb2.CloseSessionsRequest, _: Call
    ) -> sequence_pb2.CloseSessionsResponse:
        """As `close` on a stream."""
        return await self._sessions.close(request)

    async def RestoreSessions(
        self, request: sequence_pb2.RestoreSessionsRequest, _: Call
    ) -> sequence_pb2.RestoreSessionsResponse:
        """As `restore` on a stream."""
        return await self._sessions.restore(request)

    async def ForkSessions(
        self, request: sequence_pb2.ForkSessionsRequest, _: Call
    ) -> sequence_pb2.ForkSessionsResponse:
        """As `fork` on a stream."""
        return await self._sessions.fork(request)

    async def RewindSessions(
        self, request: sequence_pb2.RewindSessionsRequest, _: Call
    ) -> sequence_pb2.RewindSessionsResponse:
        """As `rewind` on a stream."""
        return await self._sessions.rewind(request)

    async def SnapshotSessions(
        self, request: sequence_pb2.SnapshotSessionsRequest, _: Call
    ) -> sequence_pb2.SnapshotSessionsResponse:
        """As `snapshot` on a stream."""
        return await self._sessions.snapshot(request)

    async def ReadStates(
        self, request: sequence_pb2.ReadStatesRequest, _: Call
    ) -> sequence_pb2.ReadStatesResponse:
        """As `read_states` on a stream."""
        return await self._sessions.read_states(request)

    async def WriteStates(
        self, request: sequence_pb2.WriteStatesRequest, _: Call
    ) -> sequence_pb2.WriteStatesResponse:
        """As `write_states` on a stream."""
        return await self._sessions.write_states(request)

    async def CreateCheckpoints(
        self, request: sequence_pb2.CreateCheckpointsRequest, _: Call
    ) -> sequence_pb2.CreateCheckpointsResponse:
        """As `create_checkpoints` on a stream."""
        return await self._sessions.create_checkpoints(request)

    async def ListCheckpoints(
        self, request: sequence_pb2.ListCheckpointsRequest, _: Call
    ) -> sequence_pb2.ListCheckpointsResponse:
        """As `list_checkpoints` on a stream."""
        return await self._sessions.list_checkpoints(request)

    async def DeleteCheckpoints(
        self, request: sequence_pb2.DeleteCheckpointsRequest, _: Call
    ) -> sequence_pb2.DeleteCheckpointsResponse:
        """As `delete_checkpoints` on a stream."""
        return await self._sessions.delete_checkpoints(request)

    async def _write_all(self, call: Call, responses: AsyncGenerator[Any]) -> None:
        async with aclosing(responses):
            async for response in responses:
                await call.write(response.SerializeToString(), stall_s=self._settings.stall_s)
