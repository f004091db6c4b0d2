"""Gives a session another state, and resolves what is uncertain about a session.

A request that gives a state does not depend on the one before it: until it is answered, it is sent again to
whichever server has the session. One that may have been applied although it raised is completed by the
session's next operation. In between nothing is replayed: the journal belongs to the state that may be gone.
"""

from dataclasses import dataclass

from statewise.client.sessions._origin import Origin
from statewise.client.sessions._recovery import find, recover, reopen
from statewise.client.sessions._remote_session import RemoteSession, StateChange
from statewise.client.stream import Operation, pause_before_retry
from statewise.client.values import Failed, GivenState, ModelInfo, Status, error_of, status_of_row
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64


@dataclass(frozen=True, slots=True)
class WriteState:
    """Writes a state.

    Attributes:
        state: whole states, [1, ...] by name.
        position: the session's position afterwards, in time steps.
    """

    state: GivenState
    position: int

    def request(self, held: int) -> tuple[str, sequence_pb2.WriteStatesRequest]:
        """See `StateChange`."""
        request = sequence_pb2.WriteStatesRequest(
            positions=pack_uint64([held]), new_positions=pack_uint64([self.position])
        )
        self.state.fill(request.state, 0, 1)
        return "write_states", request

    def origin(self, model: ModelInfo) -> Origin:
        """See `StateChange`."""
        return Origin.of_state(model, self.state, self.position)


@dataclass(frozen=True, slots=True)
class GoToCheckpoint:
    """Takes a session to one of its checkpoints, wherever it is."""

    name: str

    def request(self, held: int) -> tuple[str, sequence_pb2.RewindSessionsRequest]:
        """See `StateChange`."""
        return "rewind", sequence_pb2.RewindSessionsRequest(checkpoints=[self.name])

    def origin(self, model: ModelInfo) -> None:
        """See `StateChange`: the server alone knows the state."""


def change_state(remote: RemoteSession, change: StateChange) -> Operation[None]:
    """Gives the session another state.

    Raises:
        StatewiseError: another try cannot help. `remote.uncertain_change` holds the change if it may have
            been applied.
    """
    policy = remote.multiplexer.retry_policy()
    while True:
        try:
            yield from _change(remote, change)
            return
        except Failed as failed:
            if not (yield from pause_before_retry(remote.multiplexer, policy, failed.status)):
                raise error_of(failed.status, remote.subject) from None


def resolve_uncertainty(remote: RemoteSession) -> Operation[None]:
    """Finds out whether the uncertain request was applied, and brings the server to that position.

    An uncertain change of the state is completed instead.
    """
    if remote.uncertain_change is not None:
        yield from change_state(remote, remote.uncertain_change)
        return
    command = remote.uncertain_request
    policy = remote.multiplexer.retry_policy()
    while True:
        try:
            held = yield from recover(remote, ahead=command)
            break
        except Failed as failed:
            if not (yield from pause_before_retry(remote.multiplexer, policy, failed.status)):
                raise error_of(failed.status, remote.subject) from None
    remote.uncertain_request = None
    if command is not None and held != remote.position:
        remote.applied(held - remote.position, command.payload, remote.durable_position)


def _change(remote: RemoteSession, change: StateChange) -> Operation[None]:
    held = remote.position
    lost = remote.uncertain
    while True:
        if lost:
            found = yield from _find(remote, change)
            if found is None:
                return
            held = found
        status = yield from _send(remote, change, held)
        if status is None:
            return
        lost = remote.handle_unknown(status)
        if not lost:
            remote.uncertain_change = None
            raise error_of(status, remote.subject)


def _send(remote: RemoteSession, change: StateChange, held: int) -> Operation[Status | None]:
    """Sends the request once; returns why it failed, or None."""
    name, request = change.request(held)
    request.handles = pack_uint64([remote.handle])
    try:
        reply = yield from remote.send(name, request)
    except Failed as failed:
        # A server whose store is away has applied it.
        if failed.status.maybe_applied or failed.status.reason == Reason.STORE_UNAVAILABLE:
            remote.uncertain_change = change
        raise
    if reply.errors:
        return status_of_row(reply.errors[0])
    remote.changed(reply.sessions[0], change.origin(remote.model))
    return None


def _find(remote: RemoteSession, change: StateChange) -> Operation[int | None]:
    """Takes the session over where a server has it, at any position; returns that.

    Where none has it any more, it is opened anew: in the state that it is to get (the result is None), or as
    it was before.
    """
    # If this operation fails, the server may have an older state of the session than the client.
    remote.needs_replay = True
    origin = change.origin(remote.model)
    while True:
        session = yield from find(remote)
        if session is not None:
            return int(session.position)
        if origin is None:
            remote.uncertain_change = None
            yield from recover(remote)
            return remote.position
        if (yield from reopen(remote, origin)):
            remote.opened_anew(origin)
            return None
