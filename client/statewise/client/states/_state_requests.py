"""Sends requests about one session's state: read, write; make, list, drop a checkpoint, go to one.

Each runs in the turn of its caller, and may be repeated.
"""

from statewise.client.sessions import (
    GoToCheckpoint,
    Origin,
    RemoteSession,
    WriteState,
    ask_where_it_stands,
    change_state,
    check_new_enough,
    until_answered,
)
from statewise.client.stream import Operation
from statewise.client.values import (
    Array,
    CheckpointInfo,
    GivenState,
    check_states_known,
    merged_state,
    missing_states,
    read_checkpoint,
    read_states,
)
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64


def read_state(remote: RemoteSession) -> Operation[dict[str, Array]]:
    """Returns the session's whole states, [1, ...] by name."""
    check_states_known(remote.model)
    request = sequence_pb2.ReadStatesRequest()
    reply = yield from until_answered(remote, lambda: ask_where_it_stands(remote, "read_states", request))
    return read_states(remote.model, reply.state, 1)


def read_origin(remote: RemoteSession) -> Operation[None]:
    """Makes the session's present state the one that it can be opened in anew."""
    state = yield from read_state(remote)
    remote.journal.restart(remote.position)
    remote.origin = Origin.of_state(remote.model, GivenState(state), remote.position)


def write_state(remote: RemoteSession, given: GivenState, position: int | None) -> Operation[None]:
    """Gives the session a state; what is not given stays as it is. `position`: None: as it is.

    The request holds whole states, so the server needs nothing of the session's earlier state to apply it.
    """
    missing = missing_states(remote.model, given)
    rest = (yield from read_state(remote)) if missing else {}
    whole = merged_state(remote.model, given, rest)
    yield from change_state(remote, WriteState(whole, remote.position if position is None else position))


def rewind_to_checkpoint(remote: RemoteSession, name: str) -> Operation[None]:
    """Takes the session to one of its checkpoints.

    Where no store would have that state, it is read, so that this client can build it again.

    Raises:
        CheckpointNotFound: the session has no checkpoint of that name.
    """
    check_new_enough(remote)
    yield from change_state(remote, GoToCheckpoint(name))
    if not remote.journal.keeps_tail:
        yield from read_origin(remote)


def create_checkpoint(remote: RemoteSession, name: str) -> Operation[CheckpointInfo]:
    """Keeps the session's present state under a name."""
    check_new_enough(remote)
    request = sequence_pb2.CreateCheckpointsRequest(names=[name], positions=pack_uint64([remote.position]))
    reply = yield from until_answered(
        remote, lambda: ask_where_it_stands(remote, "create_checkpoints", request)
    )
    return read_checkpoint(reply.checkpoints[0])


def list_checkpoints(remote: RemoteSession) -> Operation[list[CheckpointInfo]]:
    """Returns the session's checkpoints, in the order in which they were made."""
    check_new_enough(remote)
    request = sequence_pb2.ListCheckpointsRequest()
    reply = yield from until_answered(
        remote, lambda: ask_where_it_stands(remote, "list_checkpoints", request)
    )
    return [read_checkpoint(checkpoint) for checkpoint in reply.sessions[0].checkpoints]


def delete_checkpoint(remote: RemoteSession, name: str) -> Operation[None]:
    """Drops a checkpoint; one that there is not is no failure."""
    check_new_enough(remote)
    request = sequence_pb2.DeleteCheckpointsRequest(names=[name])
    yield from until_answered(remote, lambda: ask_where_it_stands(remote, "delete_checkpoints", request))
