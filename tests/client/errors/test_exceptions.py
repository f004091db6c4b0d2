"""Turns reasons and statuses into exceptions that say what to do."""

import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from statewise.client import (
    InternalError,
    LimitReached,
    NotImplementedByServer,
    Overloaded,
    PartialFailure,
    PositionMismatch,
    SessionLost,
    StatewiseError,
    Timeout,
    Unavailable,
)
from statewise.client.values import Status, Subject, error_of, status_of_row, status_of_rpc
from statewise.v1 import tensor_pb2
from statewise.wire import Reason

EXPECTED = {
    Reason.MODEL_NOT_FOUND: "ModelNotFound",
    Reason.SESSION_NOT_FOUND: "SessionNotFound",
    Reason.SESSION_EXPIRED: "SessionExpired",
    Reason.BAD_TENSOR: "InvalidInput",
    Reason.BAD_REQUEST: "InvalidInput",
    Reason.BAD_SNAPSHOT: "InvalidSnapshot",
    Reason.SESSION_EXISTS: "SessionExists",
    Reason.POSITION_MISMATCH: "PositionMismatch",
    Reason.NOT_STREAMABLE: "NotStreamable",
    Reason.WRONG_CALL: "InvalidInput",
    Reason.PACKAGE_INVALID: "Unavailable",
    Reason.MODEL_CHANGED: "ModelChanged",
    Reason.SESSION_MOVED: "SessionMoved",
    Reason.QUEUE_FULL: "Overloaded",
    Reason.SESSION_LIMIT: "LimitReached",
    Reason.BYTES_LIMIT: "LimitReached",
    Reason.DRAINING: "Unavailable",
    Reason.MODEL_LOADING: "Unavailable",
    Reason.STORE_UNAVAILABLE: "Unavailable",
    Reason.DEADLINE: "Timeout",
    Reason.CANCELLED: "Unavailable",
    Reason.UNAUTHENTICATED: "Unauthenticated",
    Reason.PERMISSION_DENIED: "PermissionDenied",
    Reason.SESSION_LOST: "SessionLost",
    Reason.CHECKPOINT_NOT_FOUND: "CheckpointNotFound",
    Reason.CHECKPOINT_EXISTS: "CheckpointExists",
    Reason.NOT_IMPLEMENTED: "NotImplementedByServer",
    Reason.INTERNAL: "InternalError",
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_exception(reason: Reason) -> None:
    error = error_of(Status("UNKNOWN", reason, "what was found"), Subject("s-1", "m", 2))
    assert type(error).__name__ == EXPECTED[reason]
    assert "what was found" in str(error)
    for name, value in {"session_id": "s-1", "model": "m", "version": 2}.items():
        assert getattr(error, name, value) == value


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", Timeout),
        ("RESOURCE_EXHAUSTED", LimitReached),
        ("UNIMPLEMENTED", NotImplementedByServer),
        ("UNKNOWN", InternalError),
        ("DATA_LOSS", InternalError),
    ],
)
def test_a_status_of_the_transport_has_one_too(code: str, kind: type[StatewiseError]) -> None:
    error = error_of(Status(code), Subject())
    assert type(error) is kind
    assert code in str(error)


def test_a_rich_status_gives_reason_and_delay() -> None:
    def packed(message: Message) -> any_pb2.Any:
        wrapped = any_pb2.Any()
        wrapped.Pack(message)
        return wrapped

    rich = status_pb2.Status(
        code=8,
        message="512 steps wait",
        details=[
            packed(error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="statewise")),
            packed(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000))),
        ],
    )
    status = status_of_rpc(rich)
    assert (status.code, status.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    error = error_of(status, Subject())
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 0.25
    assert str(error) == "512 steps wait; try again in 0.25 s"


def test_a_position_that_does_not_match_comes_with_the_one_held() -> None:
    row = tensor_pb2.RowError(row=3, code=9, reason="POSITION_MISMATCH", message="expected 5", position=7)
    error = error_of(status_of_row(row), Subject("s"))
    assert isinstance(error, PositionMismatch)
    assert (error.position, error.session_id) == (7, "s")


def test_a_code_nobody_knows_is_no_crash() -> None:
    assert status_of_row(tensor_pb2.RowError(code=999)).code == "UNKNOWN"


def test_a_timeout_is_a_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        raise Timeout("no answer within 1 s")


def test_a_partial_failure_names_the_first_row() -> None:
    error = PartialFailure([None, 1, None], {2: SessionLost("b"), 0: SessionLost("a")})
    assert "2 of 3 rows failed, first row 0: a" in str(error)
    assert error.outputs == [None, 1, None]
