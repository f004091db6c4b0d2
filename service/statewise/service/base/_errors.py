"""Failures of the service, without transport.

Not gRPC statuses: those are chosen in `status.py`, in one table. A `ServiceError` fails a whole request and
nothing of it was applied; a `RowFailure` fails one row and leaves the others alone.
"""

from dataclasses import dataclass

from statewise.wire import Reason

_LONGEST_MESSAGE = 1_000


class ServiceError(Exception):
    """A request failed as a whole; nothing of it was applied.

    Attributes:
        reason: The stable word for what went wrong.
        message: For people: what was expected and what came.
        retry_after_s: With QUEUE_FULL: when to come back.
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
        reason: The stable word for what went wrong.
        message: For people.
        position: With POSITION_MISMATCH: the position held, in time steps.
    """

    row: int
    reason: Reason
    message: str
    position: int = 0


def shortened(message: str) -> str:
    """A message as long as it may travel or be logged: it may quote what somebody sent, of any length."""
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def abandoned(cancelled: bool, deadline_s: float | None, now_s: float) -> ServiceError | None:
    """Why no caller waits for a request any more; None: one does."""
    if cancelled:
        return ServiceError(Reason.CANCELLED, "the request was cancelled; nothing was applied")
    if deadline_s is not None and deadline_s < now_s:
        return ServiceError(Reason.DEADLINE, "the time given has passed; nothing was applied")
    return None


def server_fault() -> ServiceError:
    """A fault of ours: the detail goes to the log, the caller learns that there is one."""
    return ServiceError(Reason.INTERNAL, "the server failed; the server's log has the detail")


def model_fault(row: int) -> RowFailure:
    """A row that the model failed on even when it ran alone."""
    return RowFailure(row, Reason.INTERNAL, "the model failed on this row")
