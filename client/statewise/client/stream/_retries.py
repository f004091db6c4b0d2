"""Sends a request of the session stream again until it is answered or another try cannot help."""

from typing import Any, TypeVar

from statewise.client.retries import RetryPolicy
from statewise.client.stream._effects import Exchange, Pause
from statewise.client.stream._multiplexer import StreamMultiplexer
from statewise.client.stream._protocols import Operation
from statewise.client.values import Failed, Status, Subject, error_of, status_of_row

T = TypeVar("T")


def pause_before_retry(
    multiplexer: StreamMultiplexer, policy: RetryPolicy, status: Status
) -> Operation[bool]:
    """Pauses with the connection's other operations; returns whether to send the request again."""
    if multiplexer.closed or not policy.try_again_after(status):
        return False
    yield Pause()
    return True


def answered(multiplexer: StreamMultiplexer, operation: Operation[T]) -> Operation[tuple[T, int]]:
    """Runs an operation that ends with a reply; returns its result and the number of that connection."""
    result = yield from operation
    return result, multiplexer.answering


def exchange(
    multiplexer: StreamMultiplexer, name: str, message: Any, subject: Subject, *, alone: bool = False
) -> Operation[Any]:
    """Sends a request that may be repeated; returns its reply.

    Args:
        multiplexer: the connection.
        name: name of the operation.
        message: the request.
        subject: named in errors.
        alone: the request has one row, whose failure is the request's.

    Raises:
        StatewiseError: the request failed as a whole.
    """
    policy = multiplexer.retry_policy()
    while True:
        try:
            reply = yield Exchange(name, [message.SerializeToString()])
        except Failed as failed:
            status = failed.status
        else:
            if not (alone and reply.errors):
                return reply
            status = status_of_row(reply.errors[0])
        if not (yield from pause_before_retry(multiplexer, policy, status)):
            raise error_of(status, subject)
