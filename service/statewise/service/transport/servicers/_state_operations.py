"""Performs operations on states of sessions, present and kept, for streams and unary calls alike.

Converts request and result, and counts the request. A ServiceError passes through as it is.
"""

from collections.abc import Sequence
from typing import TypeVar

from statewise.service.auth import caller
from statewise.service.base import RowFailure
from statewise.service.dataplane import Dataplane, OpenedSession, Portions, SessionCheckpoints
from statewise.service.transport.messages import (
    checkpoint_message,
    read_arrays,
    read_uint64,
    row_error,
    session_message,
    states_response,
)
from statewise.service.transport.servicers._request_counts import counted
from statewise.v1 import sequence_pb2

_Reply = TypeVar(
    "_Reply",
    sequence_pb2.OpenSessionsResponse,
    sequence_pb2.ResumeSessionsResponse,
    sequence_pb2.RestoreSessionsResponse,
    sequence_pb2.ForkSessionsResponse,
    sequence_pb2.RewindSessionsResponse,
    sequence_pb2.WriteStatesResponse,
)


class StateOperations:
    """Operations on states and named checkpoints, one method each, named as in a stream's request.

    Args:
        dataplane: The server's behaviour.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._states = dataplane.session_states
        self._checkpoints = SessionCheckpoints.beside(dataplane.sessions)
        self.statistics = dataplane.statistics

    @counted("create_checkpoints")
    async def create_checkpoints(
        self, request: sequence_pb2.CreateCheckpointsRequest
    ) -> sequence_pb2.CreateCheckpointsResponse:
        """Keeps the present states of sessions under names."""
        made, failures = await self._checkpoints.create(
            read_uint64(request.handles, "handles"),
            request.names,
            read_uint64(request.positions, "positions") if request.positions else None,
            owner=caller().owner,
        )
        reply = sequence_pb2.CreateCheckpointsResponse(errors=[row_error(one) for one in failures])
        async for portion in Portions(made):
            reply.checkpoints.extend([checkpoint_message(one) for one in portion])
        return reply

    @counted("list_checkpoints")
    async def list_checkpoints(
        self, request: sequence_pb2.ListCheckpointsRequest
    ) -> sequence_pb2.ListCheckpointsResponse:
        """Lists the named checkpoints of sessions."""
        handles = read_uint64(request.handles, "handles")
        found, failures = await self._checkpoints.list_all(handles, owner=caller().owner)
        reply = sequence_pb2.ListCheckpointsResponse(errors=[row_error(one) for one in failures])
        async for portion in Portions(found, size=8):
            for of_session in portion:
                reply.sessions.add(checkpoints=[checkpoint_message(one) for one in of_session])
        return reply

    @counted("delete_checkpoints")
    async def delete_checkpoints(
        self, request: sequence_pb2.DeleteCheckpointsRequest
    ) -> sequence_pb2.DeleteCheckpointsResponse:
        """Drops named checkpoints of sessions."""
        handles = read_uint64(request.handles, "handles")
        failures = await self._checkpoints.delete(handles, request.names, owner=caller().owner)
        return sequence_pb2.DeleteCheckpointsResponse(errors=[row_error(one) for one in failures])

    @counted("read_states")
    async def read_states(self, request: sequence_pb2.ReadStatesRequest) -> sequence_pb2.ReadStatesResponse:
        """Gives sessions' states as arrays."""
        handles = read_uint64(request.handles, "handles")
        read = await self._states.read(handles, owner=caller().owner)
        return states_response(read)

    @counted("write_states")
    async def write_states(
        self, request: sequence_pb2.WriteStatesRequest
    ) -> sequence_pb2.WriteStatesResponse:
        """Gives sessions states."""
        written, failures = await self._states.write(
            read_uint64(request.handles, "handles"),
            read_uint64(request.positions, "positions"),
            read_arrays(request.state, "state"),
            read_uint64(request.new_positions, "new_positions"),
            owner=caller().owner,
        )
        return await sessions_reply(sequence_pb2.WriteStatesResponse, written, failures)


async def sessions_reply(
    message: type[_Reply], sessions: Sequence[OpenedSession], failures: Sequence[RowFailure]
) -> _Reply:
    """Builds a reply in portions, between which the event loop turns."""
    reply = message()
    async for portion in Portions(sessions):
        reply.sessions.extend([session_message(one) for one in portion])
    async for failed in Portions(failures):
        reply.errors.extend([row_error(one) for one in failed])
    return reply
