"""Sends a session's failed step or generation again until it is applied or another try cannot help."""

from typing import Any

from statewise.client.sessions._commands import SessionCommand
from statewise.client.sessions._recovery import recover, start_over
from statewise.client.sessions._remote_session import RemoteSession
from statewise.client.stream import Operation, pause_before_retry
from statewise.client.values import Failed, Status, error_of
from statewise.wire import Reason


def retry_until_applied(
    remote: RemoteSession, status: Status, command: SessionCommand, *, maybe_applied: bool = False
) -> Operation[Any]:
    """Sends a request again that failed once; its result is the same as if it had not.

    Args:
        remote: the session.
        status: how the request failed.
        command: the request.
        maybe_applied: an earlier try may have been applied.

    Returns:
        The outcome of the command's effect.

    Raises:
        StatewiseError: another try cannot help. `remote.uncertain_request` holds the command if it may have
            been applied.
    """
    policy = remote.multiplexer.retry_policy()
    recovered = False
    while True:
        # A server whose store is away may have applied a generation, whose end it does not tell.
        maybe_applied |= status.maybe_applied or status.reason == Reason.STORE_UNAVAILABLE
        try:
            if remote.handle_unknown(status):
                yield from recover(remote, ahead=command if maybe_applied else None)
                recovered = True
            elif status.reason == Reason.POSITION_MISMATCH and recovered and maybe_applied:
                # The request was applied, and the server has no earlier state: it is built again.
                yield from start_over(remote, remote.position)
                maybe_applied = False
            elif not (yield from pause_before_retry(remote.multiplexer, policy, status)):
                # After SESSION_MOVED the position is the new owner's concern.
                if maybe_applied and status.reason != Reason.SESSION_MOVED:
                    remote.uncertain_request = command
                raise error_of(status, remote.subject)
            if remote.needs_replay:
                yield from recover(remote, ahead=command if maybe_applied else None)
                recovered = True
            result = yield command.effect(remote.handle, remote.position)
            remote.connection_number = remote.multiplexer.answering
            return result
        except Failed as failed:
            status = failed.status
        except GeneratorExit:
            # The caller left between two tries.
            if maybe_applied:
                remote.uncertain_request = command
            raise
