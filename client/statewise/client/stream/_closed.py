"""Says why a client takes no more work: it was closed, or its process is a forked child."""

from statewise.client.values import StatewiseError, Status, Subject, error_of
from statewise.wire import Reason

CLOSED = Status("CANCELLED", Reason.CANCELLED, "the client is closed; make a new one")
FORKED = Status(
    "CANCELLED",
    Reason.CANCELLED,
    "the client was made before fork(), in the parent process; make a new one in this process",
)


def closed_error(status: Status = CLOSED) -> StatewiseError:
    """Returns the exception that methods of a closed client raise."""
    return error_of(status, Subject())
