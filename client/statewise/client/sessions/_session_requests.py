"""Sends the requests of a session that carry no input: close, fork, snapshot, and those of other modules."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from statewise.client.sessions._origin import Origin
from statewise.client.sessions._recovery import find, new_birth, recover
from statewise.client.sessions._remote_session import OpenedSession, RemoteSession
from statewise.client.stream import Operation, pause_before_retry
from statewise.client.values import Failed, NotImplementedByServer, error_of, status_of_row
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

    reply = yield from until_answered(remote, close)
    remote.raise_row(reply.errors)
    remote.journal.clear()
    remote.handle = 0


def fork_session(
    remote: RemoteSession, session_id: str, at: str | None
) -> Operation[tuple[OpenedSession, Origin | None]]:
    """Copies the session under a new id; `at`: from a checkpoint. Also returns what its inputs began from."""
    if at is not None:
        check_new_enough(remote)
    # The birth is the same in every try, so that a try whose predecessor was applied finds the copy.
    birth = new_birth()
    request = sequence_pb2.ForkSessionsRequest(
        session_ids=[session_id], births=pack_uint64([birth]), checkpoints=[] if at is None else [at]
    )
    reply = yield from until_answered(remote, lambda: ask_where_it_stands(remote, "fork", request))
    opened = OpenedSession(reply.sessions[0], remote.multiplexer.answering, birth)
    return opened, None if at is not None else remote.origin


def take_snapshot(remote: RemoteSession, *, checkpoints: bool) -> Operation[bytes]:
    """Returns the session's state as a token, with its checkpoints where these are wanted."""
    if checkpoints:
        check_new_enough(remote)
    request = sequence_pb2.SnapshotSessionsRequest(checkpoints=checkpoints)
    reply = yield from until_answered(remote, lambda: ask_where_it_stands(remote, "snapshot", request))
    token: bytes = reply.tokens[0]
    return token


def check_new_enough(remote: RemoteSession) -> None:
    """Raises NotImplementedByServer where the server would not understand a request about checkpoints."""
    if not remote.keep:
        raise NotImplementedByServer("the server is older than checkpoints, and than requests that are kept")


def until_answered(remote: RemoteSession, attempt: Callable[[], Operation[T]]) -> Operation[T]:
    """Makes attempts until one is answered or another one cannot help."""
    policy = remote.multiplexer.retry_policy()
    while True:
        try:
            return (yield from attempt())
        except Failed as failed:
            if not (yield from pause_before_retry(remote.multiplexer, policy, failed.status)):
                raise error_of(failed.status, remote.subject) from None


def ask_where_it_stands(
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
