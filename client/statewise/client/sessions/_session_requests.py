"""Sends the requests of a session that carry no input: close, fork, snapshot, rewind."""

from typing import Any

from statewise.client.sessions._recovery import recover
from statewise.client.sessions._remote_session import RemoteSession
from statewise.client.stream import Operation, pause_before_retry
from statewise.client.values import Failed, error_of, status_of_row
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64


def close_session(remote: RemoteSession) -> Operation[None]:
    """Ends the session and forgets its journal."""
    yield from _exchange_by_handle(remote, "close", sequence_pb2.CloseSessionsRequest())
    remote.journal.clear()


def fork_session(remote: RemoteSession, session_id: str) -> Operation[sequence_pb2.Session]:
    """Copies the session under a new id."""
    request = sequence_pb2.ForkSessionsRequest(session_ids=[session_id])
    reply = yield from _exchange_by_handle(remote, "fork", request)
    session: sequence_pb2.Session = reply.sessions[0]
    return session


def take_snapshot(remote: RemoteSession) -> Operation[bytes]:
    """Returns the session's state as a token."""
    reply = yield from _exchange_by_handle(remote, "snapshot", sequence_pb2.SnapshotSessionsRequest())
    token: bytes = reply.tokens[0]
    return token


def rewind_session(remote: RemoteSession) -> Operation[None]:
    """Undoes the last request."""
    target = remote.position if remote.previous_position is None else remote.previous_position
    request = sequence_pb2.RewindSessionsRequest(positions=pack_uint64([target]))
    yield from _exchange_by_handle(remote, "rewind", request)
    remote.rewound(target)


def _exchange_by_handle(remote: RemoteSession, name: str, request: Any) -> Operation[Any]:
    """Sends a request with the session's handle; a session that its server lost is recovered first."""
    policy = remote.multiplexer.retry_policy()
    while True:
        try:
            request.handles = pack_uint64([remote.handle])
            reply = yield from remote.exchange(name, request)
            if not (reply.errors and remote.retryable(status_of_row(reply.errors[0]))):
                remote.raise_row(reply.errors)
                return reply
            yield from recover(remote)
        except Failed as failed:
            if not (yield from pause_before_retry(remote.multiplexer, policy, failed.status)):
                raise error_of(failed.status, remote.subject) from None
