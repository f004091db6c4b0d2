"""Performs operations on sessions, for streams and unary calls alike, by calls of the dataplane.

Converts request and result, and counts the request. A ServiceError passes through as it is.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from statewise.service.auth import caller
from statewise.service.base import ServiceError, StepBatch, StepResult
from statewise.service.dataplane import (
    CancellationToken,
    Dataplane,
    ExpectedSessions,
    Generator,
    InitialStates,
    SessionEnds,
    SessionGenerator,
    checkpoint_bytes_of,
    given_positions,
    given_states,
    parts_within,
)
from statewise.service.telemetry import OK
from statewise.service.transport.messages import (
    generate_sessions_response,
    generated_sessions_responses,
    read_arrays,
    read_deadline_s,
    read_durability,
    read_sampling,
    read_sequences,
    read_text,
    read_uint32,
    read_uint64,
    row_error,
)
from statewise.service.transport.servicers._request_counts import RequestCount, counted
from statewise.service.transport.servicers._state_operations import StateOperations, sessions_reply
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64

StepReply = Callable[[StepResult | ServiceError], None]


class SessionOperations(StateOperations):
    """Operations on sessions, one method each, named as in a stream's request; for the caller of the running
    task.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        super().__init__(dataplane)
        self._dataplane = dataplane
        self._clock = dataplane.clock
        self._sessions = dataplane.sessions
        self._encoder = Generator(dataplane)
        self._generator = SessionGenerator(dataplane)
        self._part_bytes = dataplane.limits.settings.message_bytes * 3 // 4

    def step(
        self, request: sequence_pb2.StepRequest, reply: StepReply, *, remaining_s: float | None = None
    ) -> StepBatch | None:
        """Advances sessions.

        Args:
            request: The sessions, their positions and inputs.
            reply: Gets the result, exactly once.
            remaining_s: Seconds until the call ends; None: no end.

        Returns:
            The batch, for cancelling; None where `reply` has been called already.

        Raises:
            ServiceError: the request as a whole is refused; `reply` is not called.
        """
        requests = self.statistics.requests

        def count_and_reply(result: StepResult | ServiceError) -> None:
            requests["step", result.reason if isinstance(result, ServiceError) else OK] += 1
            reply(result)

        deadline_s = read_deadline_s(request, clock=self._clock, remaining_s=remaining_s)
        try:
            return self._dataplane.step(
                read_uint64(request.handles, "handles"),
                read_uint64(request.positions, "positions"),
                read_uint32(request.steps, "steps") if request.steps else None,
                read_arrays(request.inputs),
                owner=caller().owner,
                deadline_s=deadline_s,
                reply=count_and_reply,
            )
        except ServiceError as error:
            requests["step", error.reason] += 1
            raise

    async def generate(
        self,
        request: sequence_pb2.GenerateSessionsRequest,
        cancellation: CancellationToken,
        *,
        remaining_s: float | None = None,
    ) -> AsyncGenerator[sequence_pb2.GenerateSessionsResponse]:
        """Yields what sessions emit, as they emit it; with the last response, `done`, the new states apply.

        Args:
            request: The sessions, their positions and sampling options.
            cancellation: Cancellation token of the request; gets its deadline.
            remaining_s: Seconds until the call ends; None: no end.
        """
        with RequestCount(self.statistics, "generate_sessions"):
            cancellation.deadline_s = read_deadline_s(request, clock=self._clock, remaining_s=remaining_s)
            generated = self._generator.generate(
                read_uint64(request.handles, "handles"),
                read_uint64(request.positions, "positions"),
                read_uint32(request.steps, "steps"),
                lambda rows: read_sampling(request.sampling, rows),
                cancellation,
                owner=caller().owner,
            )
            ends: SessionEnds | None = None
            async with aclosing(generated) as parts:
                async for whole in parts:
                    ends = whole.ends
                    if whole.chunk is None and not whole.failures:
                        continue
                    for part in parts_within(whole, self._part_bytes):
                        yield generate_sessions_response(part)
            for response in generated_sessions_responses(ends, self._part_bytes):
                yield response

    @counted("open")
    async def open(
        self, request: sequence_pb2.OpenSessionsRequest, *, remaining_s: float | None = None
    ) -> sequence_pb2.OpenSessionsResponse:
        """Opens sessions: in states that the request gives, or that the encoder computes from its inputs.

        Args:
            request: Ids, births, and states or the encoder's input.
            remaining_s: Seconds until the call ends; None: no end.
        """
        initial = await self._initial_states(request, remaining_s)
        opened, failures = await self._sessions.open(
            request.model,
            request.version,
            request.session_ids,
            owner=caller().owner,
            births=read_uint64(request.births, "births").tolist(),
            only_new=request.only_new,
            durability=read_durability(request.durability),
            keep=request.keep,
            initial=initial,
        )
        return await sessions_reply(sequence_pb2.OpenSessionsResponse, opened, failures)

    async def _initial_states(
        self, request: sequence_pb2.OpenSessionsRequest, remaining_s: float | None
    ) -> InitialStates | None:
        """Returns the states that sessions are to begin in; None: in the model's own."""
        rows = len(request.session_ids)
        text = read_text(request.encoder_text, present=request.HasField("encoder_text"))
        raw = read_sequences(request.encoder_inputs, request.encoder_lengths, text)
        state = read_arrays(request.state, "state")
        positions = given_positions(
            read_uint64(request.positions, "positions"), "positions", rows=rows, with_state=bool(state)
        )
        if not state:
            cancellation = CancellationToken(None if remaining_s is None else self._clock() + remaining_s)
            return await self._encoder.encode(
                request.model, request.version, raw, rows, cancellation, owner=caller().owner
            )
        if raw:
            raise ServiceError(Reason.BAD_REQUEST, "expected an input for the encoder, or a state; got both")
        model = self._dataplane.models.find(request.model, request.version)
        model.require_sessions()
        self._dataplane.limits.check_size(rows, None)
        given = given_states(model, state, rows=rows)
        return None if given is None else InitialStates.given(model, given, positions)

    @counted("resume")
    async def resume(
        self, request: sequence_pb2.ResumeSessionsRequest
    ) -> sequence_pb2.ResumeSessionsResponse:
        """Gives sessions new handles."""
        expected = ExpectedSessions(
            births=read_uint64(request.births, "births").tolist(),
            holders=read_uint64(request.holders, "holders").tolist(),
            durability=read_durability(request.durability),
        )
        resumed, failures = await self._sessions.resume(
            request.session_ids, owner=caller().owner, expected=expected
        )
        return await sessions_reply(sequence_pb2.ResumeSessionsResponse, resumed, failures)

    @counted("close")
    async def close(self, request: sequence_pb2.CloseSessionsRequest) -> sequence_pb2.CloseSessionsResponse:
        """Ends sessions."""
        handles = read_uint64(request.handles, "handles")
        failures = await self._sessions.close(handles, owner=caller().owner)
        return sequence_pb2.CloseSessionsResponse(errors=[row_error(one) for one in failures])

    @counted("restore")
    async def restore(
        self, request: sequence_pb2.RestoreSessionsRequest
    ) -> sequence_pb2.RestoreSessionsResponse:
        """Opens sessions from snapshots."""
        births = read_uint64(request.births, "births").tolist()
        restored, failures = await self._sessions.restore(
            request.tokens, request.session_ids, owner=caller().owner, births=births
        )
        return await sessions_reply(sequence_pb2.RestoreSessionsResponse, restored, failures)

    @counted("fork")
    async def fork(self, request: sequence_pb2.ForkSessionsRequest) -> sequence_pb2.ForkSessionsResponse:
        """Copies sessions."""
        handles = read_uint64(request.handles, "handles")
        births = read_uint64(request.births, "births").tolist()
        forked, failures = await self._sessions.fork(
            handles,
            request.session_ids,
            owner=caller().owner,
            births=births,
            checkpoints=request.checkpoints,
        )
        return await sessions_reply(sequence_pb2.ForkSessionsResponse, forked, failures)

    @counted("rewind")
    async def rewind(
        self, request: sequence_pb2.RewindSessionsRequest
    ) -> sequence_pb2.RewindSessionsResponse:
        """Takes sessions back to the positions from before their last requests, or to named checkpoints."""
        handles = read_uint64(request.handles, "handles")
        positions = read_uint64(request.positions, "positions")
        if request.checkpoints:
            expected = positions if request.positions else None
            rewound, failures = await self._checkpoints.go_to(
                handles, request.checkpoints, expected, owner=caller().owner
            )
        else:
            rewound, failures = await self._sessions.rewind(handles, positions, owner=caller().owner)
        return await sessions_reply(sequence_pb2.RewindSessionsResponse, rewound, failures)

    @counted("snapshot")
    async def snapshot(
        self, request: sequence_pb2.SnapshotSessionsRequest
    ) -> sequence_pb2.SnapshotSessionsResponse:
        """Gives sessions' states as signed tokens."""
        handles = read_uint64(request.handles, "handles")
        tokens, failures = await self._sessions.snapshot(
            handles, owner=caller().owner, checkpoints=request.checkpoints
        )
        reply = sequence_pb2.SnapshotSessionsResponse(
            tokens=tokens, errors=[row_error(one) for one in failures]
        )
        if request.checkpoints:
            reply.checkpoint_bytes = pack_uint64([checkpoint_bytes_of(token) for token in tokens])
        return reply
