"""Defines the exceptions that callers get, with typed fields; none is a type of the transport.

    StatewiseError
    ├── ModelNotFound           no such model or version
    ├── SessionNotFound         no such session, or it is closed, or another owner's
    ├── SessionExpired          idle for longer than the server allows
    ├── SessionExists           the id is in use by a session of another model
    ├── SessionLost             the state is gone and cannot be rebuilt
    ├── SessionMoved            the session was resumed elsewhere; this object no longer holds it
    ├── CheckpointNotFound      the session has no checkpoint of that name
    ├── CheckpointExists        the session has a checkpoint of that name, of another state
    ├── PositionMismatch        the session is at another position than the request assumed
    ├── NotStreamable           the model keeps no state: predict only
    ├── ModelChanged            the state belongs to another version of the model's files
    ├── InvalidInput            wrong rank, size, type, length 0, NaN, unknown token, wrong call
    ├── InvalidSnapshot         a damaged, forged or foreign snapshot
    ├── Overloaded              the server's queue is full; try again after `retry_after_s`
    ├── LimitReached            a limit of sessions, bytes, rows or steps
    ├── Unauthenticated         no credentials, or bad ones
    ├── PermissionDenied        the credentials do not allow this
    ├── Unavailable             the server cannot be reached or shuts down, or the client is closed
    │   └── TlsError            TLS on one side only, or a certificate that is not accepted
    ├── Timeout                 the timeout is over (also a TimeoutError)
    ├── PartialFailure          some rows of a batch failed; it holds the outputs of the others
    ├── NotImplementedByServer  this server does not offer the operation
    └── InternalError           a fault of the server or of this library

Every message says what was found and, if there is a remedy, what to do.
"""

# ruff: noqa: N818 - these names are the public surface, and read better without a suffix

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class StatewiseError(Exception):
    """The root of the exceptions of this package.

    Attributes:
        detail: what was found, without the advice that `str()` adds.
    """

    advice: ClassVar[str] = ""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        complete = not self.advice or self.advice in detail
        super().__init__(detail if complete else f"{detail}; {self.advice}")


class _ModelError(StatewiseError):
    """A failure that concerns one model version.

    Attributes:
        model: the model's name; empty if the failure names none.
        version: the version asked for; None: the default one.
    """

    def __init__(self, detail: str, *, model: str = "", version: int | None = None) -> None:
        self.model = model
        self.version = version
        super().__init__(detail)


class _SessionError(StatewiseError):
    """A failure that concerns one session.

    Attributes:
        session_id: the session's id; empty if the failure names none.
    """

    def __init__(self, detail: str, *, session_id: str = "") -> None:
        self.session_id = session_id
        named = not session_id or repr(session_id) in detail
        super().__init__(detail if named else f"session {session_id!r}: {detail}")


class ModelNotFound(_ModelError):
    """No such model or version."""

    advice = "models() lists what is served"


class NotStreamable(_ModelError):
    """The model has no sessions: it keeps no state between time steps, or its steps differ from the whole."""

    advice = "predict() runs it on whole sequences"


class SessionNotFound(_SessionError):
    """No such session: never opened, closed, lost with its server, or another owner's."""

    advice = "list_sessions() shows those that are open, session() opens one"


class SessionExpired(_SessionError):
    """The session was idle for longer than the server's idle_timeout_s."""

    advice = "open a new one and feed it again, or step more often than server().limits.idle_timeout_s"


class SessionExists(_SessionError):
    """The id is in use by a session of another model."""

    advice = "choose another id, or close that session"


class SessionLost(_SessionError):
    """The state is gone from the server, and the client no longer holds every input to rebuild it."""

    advice = "open a new session and feed it from the start; a server with a store loses nothing"


class SessionMoved(_SessionError):
    """The session was resumed, by this client or another one; this object no longer holds it."""

    advice = "resume() takes the session over again"


class CheckpointNotFound(_SessionError):
    """The session has no checkpoint of that name."""

    advice = "checkpoints() lists those that it has"


class CheckpointExists(_SessionError):
    """The session has a checkpoint of that name already, of another state."""

    advice = "choose another name, or delete_checkpoint() drops the one that is there"


class ModelChanged(_SessionError):
    """The state belongs to other files of the model than those that are served now."""

    advice = "open a new session, or serve the old version beside the new one"


class PositionMismatch(_SessionError):
    """The session is at another position than the request assumed; nothing was applied.

    Attributes:
        position: time steps that the session has consumed.
    """

    advice = "resume() takes the session over where it stands"

    def __init__(self, detail: str, *, session_id: str = "", position: int = 0) -> None:
        self.position = position
        super().__init__(detail, session_id=session_id)


class InvalidInput(StatewiseError):
    """An input that the model cannot take; the message names the expected and the received value."""


class InvalidSnapshot(StatewiseError):
    """A snapshot that is damaged, forged, or of another owner or key."""

    advice = "only unaltered bytes from snapshot(), of the same owner and key, can be restored"


class Overloaded(StatewiseError):
    """The server's queue is full; nothing was applied.

    Attributes:
        retry_after_s: seconds after which the server advises to try again.
    """

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            detail if "try again in" in detail else f"{detail}; try again in {retry_after_s:g} s"
        )


class LimitReached(StatewiseError):
    """A limit of sessions, bytes, rows or steps."""

    advice = "server().limits shows the limits in force"


class Unauthenticated(StatewiseError):
    """No credentials, or bad ones."""

    advice = "pass token= or a client certificate in tls="


class PermissionDenied(StatewiseError):
    """The credentials do not allow this."""

    advice = "ask the server's operator for the scope"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        if "scope" not in detail:  # such as another owner's state, which no scope opens
            self.args = (detail,)


class Unavailable(StatewiseError):
    """The server cannot be reached, shuts down or could not load the model; or this client is closed."""


class TlsError(Unavailable):
    """No connection is possible: TLS on one side only, or a certificate that is not accepted."""


class Timeout(StatewiseError, TimeoutError):
    """The timeout is over."""

    advice = "pass a larger timeout=; a session's position says whether a step was applied after all"


class PartialFailure(StatewiseError):
    """Some rows of a batch failed; the others succeeded.

    Attributes:
        outputs: one entry a row, in the order of the request: its output, or None if it failed.
        errors: the exception of each row that failed, by its index in the request.
    """

    def __init__(self, outputs: Sequence[Any], errors: Mapping[int, StatewiseError]) -> None:
        self.outputs = list(outputs)
        self.errors = dict(errors)
        row, first = min(self.errors.items())
        super().__init__(
            f"{len(self.errors)} of {len(self.outputs)} rows failed, first row {row}: {first}; "
            f"the other rows are in .outputs, each failure in .errors"
        )


class NotImplementedByServer(StatewiseError):
    """The server does not offer this operation, although the contract has it."""

    advice = "server().version is the release that runs"


class InternalError(StatewiseError):
    """A fault of the server, of the model or of this library."""

    advice = "the server's log has the detail"
