"""Turns failures of requests into exceptions, by one table of reasons and one of gRPC's codes.

The transport translates its errors into a `Status`, by which the rest of the client decides. `Failed`
carries a status through the operations and never reaches callers, who get the exceptions of `_errors`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from google.rpc import code_pb2, error_details_pb2, status_pb2

from statewise.client.values._errors import (
    CheckpointExists,
    CheckpointNotFound,
    InternalError,
    InvalidInput,
    InvalidSnapshot,
    LimitReached,
    ModelChanged,
    ModelNotFound,
    NotImplementedByServer,
    NotStreamable,
    Overloaded,
    PermissionDenied,
    PositionMismatch,
    SessionExists,
    SessionExpired,
    SessionLost,
    SessionMoved,
    SessionNotFound,
    StatewiseError,
    Timeout,
    TlsError,
    Unauthenticated,
    Unavailable,
)
from statewise.v1 import tensor_pb2
from statewise.wire import Reason

_DEFAULT_RETRY_AFTER_S = 0.1


@dataclass(frozen=True, slots=True)
class Status:
    """Why a request, or a row of one, failed."""

    code: str
    """Name of the gRPC status."""
    reason: str = ""
    """A `statewise.wire.Reason`; empty if the transport itself failed."""
    message: str = ""
    retry_after_s: float = _DEFAULT_RETRY_AFTER_S
    position: int = 0
    """With POSITION_MISMATCH: the session's position in time steps."""
    lost: bool = False
    """The connection broke before the response arrived."""
    tls_failed: bool = False
    """No connection is possible: TLS on one side only, or a certificate that is not accepted."""
    maybe_applied: bool = False
    """The connection broke after the request was sent, so it may or may not have been applied."""


class Failed(Exception):  # noqa: N818 - internal, never raised to callers
    """Carries a status through an operation."""

    def __init__(self, status: Status) -> None:
        self.status = status
        super().__init__(status.message)


@dataclass(frozen=True, slots=True)
class Subject:
    """The session or model of a request, for the message of its failure."""

    session_id: str = ""
    model: str = ""
    version: int | None = None


def status_of_row(error: tensor_pb2.RowError) -> Status:
    """Reads the failure of one row."""
    return Status(_code_name(error.code), error.reason, error.message, position=error.position)


def status_of_rpc(status: status_pb2.Status) -> Status:
    """Reads a rich status: its ErrorInfo holds the reason, its RetryInfo the delay."""
    reason, position, retry_after_s = "", 0, _DEFAULT_RETRY_AFTER_S
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason = info.reason
            position = int(info.metadata.get("position", 0))
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return Status(_code_name(status.code), reason, status.message, retry_after_s, position)


def error_of(status: Status, subject: Subject) -> StatewiseError:
    """Makes the exception that a caller gets for a status."""
    if status.tls_failed:
        return TlsError(status.message)
    make = _BY_REASON.get(status.reason) or _BY_CODE.get(status.code, _plain(InternalError))
    return make(status, subject)


def _code_name(number: int) -> str:
    try:
        return str(code_pb2.Code.Name(number))
    except ValueError:
        return "UNKNOWN"


_Maker = Callable[[Status, Subject], StatewiseError]


def _plain(kind: type[StatewiseError]) -> _Maker:
    return lambda status, _: kind(_detail(status))


def _of_model(kind: type[ModelNotFound] | type[NotStreamable]) -> _Maker:
    return lambda status, subject: kind(_detail(status), model=subject.model, version=subject.version)


def _of_session(
    kind: type[SessionNotFound]
    | type[CheckpointNotFound]
    | type[CheckpointExists]
    | type[SessionExpired]
    | type[SessionExists]
    | type[SessionLost]
    | type[SessionMoved]
    | type[ModelChanged],
) -> _Maker:
    return lambda status, subject: kind(_detail(status), session_id=subject.session_id)


def _position(status: Status, subject: Subject) -> StatewiseError:
    return PositionMismatch(_detail(status), session_id=subject.session_id, position=status.position)


def _overloaded(status: Status, _: Subject) -> StatewiseError:
    return Overloaded(_detail(status), retry_after_s=status.retry_after_s)


def _unreachable(status: Status, _: Subject) -> StatewiseError:
    return Unavailable(f"{_detail(status)}; is a server running there, and is the address right?")


def _cancelled(status: Status, _: Subject) -> StatewiseError:
    # gRPC's own message only repeats the status's name.
    message = status.message.removeprefix(status.code)
    return Unavailable(message or "the server ended the call before it was answered; try again")


def _detail(status: Status) -> str:
    return status.message or status.reason or status.code


_BY_REASON: dict[str, _Maker] = {
    Reason.MODEL_NOT_FOUND: _of_model(ModelNotFound),
    Reason.SESSION_NOT_FOUND: _of_session(SessionNotFound),
    Reason.SESSION_EXPIRED: _of_session(SessionExpired),
    Reason.BAD_TENSOR: _plain(InvalidInput),
    Reason.BAD_REQUEST: _plain(InvalidInput),
    Reason.BAD_SNAPSHOT: _plain(InvalidSnapshot),
    Reason.SESSION_EXISTS: _of_session(SessionExists),
    Reason.POSITION_MISMATCH: _position,
    Reason.NOT_STREAMABLE: _of_model(NotStreamable),
    Reason.WRONG_CALL: _plain(InvalidInput),
    Reason.PACKAGE_INVALID: _plain(Unavailable),
    Reason.MODEL_CHANGED: _of_session(ModelChanged),
    Reason.SESSION_MOVED: _of_session(SessionMoved),
    Reason.QUEUE_FULL: _overloaded,
    Reason.SESSION_LIMIT: _plain(LimitReached),
    Reason.BYTES_LIMIT: _plain(LimitReached),
    Reason.DRAINING: _plain(Unavailable),
    Reason.MODEL_LOADING: _plain(Unavailable),
    Reason.STORE_UNAVAILABLE: _plain(Unavailable),
    Reason.DEADLINE: _plain(Timeout),
    Reason.CANCELLED: _plain(Unavailable),
    Reason.UNAUTHENTICATED: _plain(Unauthenticated),
    Reason.PERMISSION_DENIED: _plain(PermissionDenied),
    Reason.SESSION_LOST: _of_session(SessionLost),
    Reason.CHECKPOINT_NOT_FOUND: _of_session(CheckpointNotFound),
    Reason.CHECKPOINT_EXISTS: _of_session(CheckpointExists),
    Reason.NOT_IMPLEMENTED: _plain(NotImplementedByServer),
    Reason.INTERNAL: _plain(InternalError),
}

# Errors of the transport itself carry no reason.
_BY_CODE: dict[str, _Maker] = {
    "INVALID_ARGUMENT": _plain(InvalidInput),
    "RESOURCE_EXHAUSTED": _plain(LimitReached),
    "UNAVAILABLE": _unreachable,
    "CANCELLED": _cancelled,
    "DEADLINE_EXCEEDED": _plain(Timeout),
    "UNAUTHENTICATED": _plain(Unauthenticated),
    "PERMISSION_DENIED": _plain(PermissionDenied),
    "UNIMPLEMENTED": _plain(NotImplementedByServer),
}
