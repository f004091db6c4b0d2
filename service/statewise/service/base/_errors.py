"""Defines how requests and rows fail, without transport.

Knows no gRPC statuses: the transport chooses these in one table. A `ServiceError` fails a whole request, of
which nothing was applied; a `RowFailure` fails one row and leaves the others alone.
"""

from dataclasses import dataclass

from statewise.wire import Reason

_LONGEST_MESSAGE = 1_000
_STORE_RETRY_S = 1.0


class ServiceError(Exception):
    """A request failed as a whole; nothing of it was applied.

    Attributes:
        reason: The stable name of the failure.
        message: For people: what was expected and what came.
        retry_after_s: With QUEUE_FULL and STORE_UNAVAILABLE: seconds after which to try again.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class RowFailure:
    """One row of a request failed; nothing of that row was applied.

    Attributes:
        row: Index in the request.
        reason: The stable name of the failure.
        message: For people.
        position: With POSITION_MISMATCH: the session's position, in time steps.
    """

    row: int
    reason: Reason
    message: str
    position: int = 0


def shortened(message: str) -> str:
    """Returns the beginning of a message that may quote a caller, short enough to be sent and logged."""
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def abandoned(cancelled: bool, deadline_s: float | None, now_s: float) -> ServiceError | None:
    """Returns why no caller waits for a request any more; None: one does."""
    if cancelled:
        return ServiceError(Reason.CANCELLED, "the request was cancelled; nothing was applied")
    if deadline_s is not None and deadline_s < now_s:
        return ServiceError(Reason.DEADLINE, "the time given has passed; nothing was applied")
    return None


def server_fault() -> ServiceError:
    """Makes the failure of a request by a server fault; the detail belongs in the log, not in the reply."""
    return ServiceError(Reason.INTERNAL, "the server failed; the server's log has the detail")


def store_unavailable(message: str) -> ServiceError:
    """Makes the failure of a request that needs the session store; it may be tried again in a second."""
    return ServiceError(Reason.STORE_UNAVAILABLE, message, retry_after_s=_STORE_RETRY_S)


def model_fault(row: int, message: str = "the model failed on this row") -> RowFailure:
    """Returns the failure of a row on which the model failed even when the row ran alone."""
    return RowFailure(row, Reason.INTERNAL, message)
