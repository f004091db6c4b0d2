"""Checks requests against the server's limits, and refuses new ones while the server drains."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.base._errors import ServiceError
from statewise.service.base._settings import Settings
from statewise.service.base._types import Handles
from statewise.wire import Reason

_LONGEST_ID_BYTES = 128


def check_name(name: str, what: str) -> None:
    """Raises ServiceError (BAD_REQUEST) for a name that is too long, or not printable."""
    if not (name.isprintable() and 1 <= len(name.encode()) <= _LONGEST_ID_BYTES):
        raise ServiceError(
            Reason.BAD_REQUEST,
            f"expected {what} of 1 to {_LONGEST_ID_BYTES} printable bytes; got {name[:160]!r}",
        )


class ServiceLimits:
    """Refuses requests that exceed a limit, and every new request once the server drains.

    Args:
        settings: Holds the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.draining = False
        """Set when the server shuts down: new requests are refused, those under way go on."""

    def refuse_when_draining(self) -> None:
        """Raises ServiceError (DRAINING) when the server shuts down."""
        if self.draining:
            raise ServiceError(Reason.DRAINING, "the server is shutting down; connect to another one")

    def check_size(self, rows: int, steps: NDArray[np.uint32] | None) -> int:
        """Returns a request's time steps, which are within the limits, as its rows are.

        Args:
            rows: Rows of the request.
            steps: Time steps of each row; None: 1 each.

        Raises:
            ServiceError: BAD_TENSOR for none, BYTES_LIMIT for too many.
        """
        if rows == 0:
            raise ServiceError(Reason.BAD_TENSOR, "the request has no rows; expected at least one")
        if rows > self.settings.request_rows:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"expected at most {self.settings.request_rows} rows a request; got {rows}",
            )
        time_steps = rows if steps is None else int(steps.sum(dtype=np.int64))
        if time_steps == 0:
            raise ServiceError(Reason.BAD_TENSOR, "every row has 0 time steps; expected at least 1")
        if time_steps > self.settings.request_steps:
            limit = self.settings.request_steps
            raise ServiceError(
                Reason.BYTES_LIMIT, f"expected at most {limit} time steps a request; got {time_steps}"
            )
        return time_steps

    def check_columns(self, *rows: int) -> None:
        """Raises ServiceError (BAD_REQUEST) where columns of a request differ in their numbers of rows."""
        if len(set(rows)) > 1:
            raise ServiceError(Reason.BAD_REQUEST, f"expected columns of equal length; got {list(rows)} rows")

    def check_handles(self, handles: Handles) -> None:
        """Raises ServiceError (BAD_TENSOR, BAD_REQUEST, BYTES_LIMIT) for no, too many or repeated handles."""
        self.check_size(len(handles), None)
        if len(handles) > 1 and len(np.unique(handles)) != len(handles):
            raise ServiceError(Reason.BAD_REQUEST, "a handle stands twice in the request")

    def check_ids(self, session_ids: Sequence[str]) -> None:
        """Raises ServiceError (BAD_REQUEST, BYTES_LIMIT) for ids that are invalid or repeated."""
        self.check_size(len(session_ids), None)
        for session_id in session_ids:
            check_name(session_id, "ids")
        if len(set(session_ids)) != len(session_ids):
            raise ServiceError(Reason.BAD_REQUEST, "a session id stands twice in the request")
