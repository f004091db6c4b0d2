"""Sends the requests of a session that carry no input: close, fork, snapshot, rewind."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from statewise.client.sessions._recovery import find, new_birth, rebuildable, recover, start_over
from statewise.client.sessions._remote_session import OpenedSession, RemoteSession
from statewise.client.sessions._session_retries import resolve_uncertainty
from statewise.client.stream import Operation, pause_before_retry
from statewise.client.values import Failed, InvalidInput, StatewiseError, error_of, status_of_row
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64, unpack_uint64

T = TypeVar("T")


def close_session(remote: RemoteSession) -> Operation[None]:
    """Ends the session and forgets its journal. The session may be uncertain."""

    def close() -> Operation[sequence_pb2.CloseSessionsResponse]:
        if remote.uncertain and (yield from find(remote)) is None:
            return sequence_pb2.CloseSessionsResponse()
        closed: sequence_pb2.CloseSessionsResponse = yield from _send(
            remote, "close", sequence_pb2.CloseSessionsRequest()
        )
        return closed

    reply = yield from _until_answered(remote, close)
    remote.raise_row(reply.errors)
    remote.journal.clear()
    remote.handle = 0


def fork_session(remote: RemoteSession, session_id: str) -> Operation[OpenedSession]:
    """Copies the session under a new id."""
    # The birth is the same in every try, so that a try whose predecessor was applied finds the copy.
    birth = new_birth()
    request = sequence_pb2.ForkSessionsRequest(session_ids=[session_id], births=pack_uint64([birth]))
    reply = yield from _until_answered(remote, lambda: _ask_where_it_stands(remote, "fork", request))
    return OpenedSession(reply.sessions[0], remote.multiplexer.answering, birth)


def take_snapshot(remote: RemoteSession) -> Operation[bytes]:
    """Returns the session's state as a token."""
    request = sequence_pb2.SnapshotSessionsRequest()
    reply = yield from _until_answered(remote, lambda: _ask_where_it_stands(remote, "snapshot", request))
    token: bytes = reply.tokens[0]
    return token


def rewind_session(remote: RemoteSession) -> Operation[None]:
    """Undoes the last request. One that raised may have been applied: repeated, it is done once.

    Raises:
        InvalidInput: no request is left that could be undone.
    """
    before, target = remote.uncertain_rewind, remote.previous_position
    remote.rewinding = True
    try:
        if remote.uncertain:
            yield from resolve_uncertainty(remote)
            target = before if remote.position == before else remote.previous_position
        yield from _rewind(remote, target)
    except (GeneratorExit, StatewiseError):
        remote.needs_replay |= remote.uncertain_rewind is not None
        raise
    finally:
        remote.rewinding = False


def _rewind(remote: RemoteSession, target: int | None) -> Operation[None]:
    if target is None:
        raise InvalidInput(
            f"session {remote.id!r} at position {remote.position}: expected a step or generation to undo; "
            "only the last one of this object can be undone, once: fork() or snapshot() keep an earlier state"
        )
    yield from _until_answered(remote, lambda: _rewind_once(remote, target))


def _rewind_once(remote: RemoteSession, target: int) -> Operation[None]:
    request = sequence_pb2.RewindSessionsRequest(positions=pack_uint64([target]))
    reply = yield from _ask_where_it_stands(remote, "rewind", request, (Reason.POSITION_MISMATCH,))
    if reply.errors:
        # The server took the session from a store, without the state from before the last request.
        if not rebuildable(remote):
            remote.raise_row(reply.errors)
        yield from start_over(remote, target)
    else:
        remote.rewound(target)


def _until_answered(remote: RemoteSession, attempt: Callable[[], Operation[T]]) -> Operation[T]:
    """Makes attempts until one is answered or another one cannot help."""
    policy = remote.multiplexer.retry_policy()
    while True:
        try:
            return (yield from attempt())
        except Failed as failed:
            if not (yield from pause_before_retry(remote.multiplexer, policy, failed.status)):
                raise error_of(failed.status, remote.subject) from None


def _ask_where_it_stands(
    remote: RemoteSession, name: str, request: Any, expected: Sequence[str] = ()
) -> Operation[Any]:
    """Sends a request by handle once the server's state is at the session's position; returns the reply.

    Raises:
        StatewiseError: the row failed for another reason than the `expected` ones.
        Failed: the request failed, or the recovery before it.
    """
    while True:
        if remote.needs_replay:
            yield from recover(remote)
        reply = yield from _send(remote, name, request)
        if not reply.errors or reply.errors[0].reason in expected:
            return reply
        if not remote.handle_unknown(status_of_row(reply.errors[0])):
            remote.raise_row(reply.errors)
        remote.needs_replay = True


def _send(remote: RemoteSession, name: str, request: Any) -> Operation[Any]:
    request.handles = pack_uint64([remote.handle])
    try:
        return (yield from remote.send(name, request))
    except Failed as failed:
        # A server whose store is away has applied it. In any case the recovery finds out.
        unstored = failed.status.reason == Reason.STORE_UNAVAILABLE
        if name == "rewind" and (failed.status.maybe_applied or unstored):
            remote.needs_replay |= failed.status.maybe_applied
            remote.uncertain_rewind = int(unpack_uint64(request.positions)[0])
        raise
