"""Reasons and statuses become exceptions that say what to do."""

import ast
import inspect
import re
from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

import statewise.client
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
from statewise.client.values import _errors as errors
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
    Reason.DEADLINE: "Timeout",
    Reason.CANCELLED: "Unavailable",
    Reason.UNAUTHENTICATED: "Unauthenticated",
    Reason.PERMISSION_DENIED: "PermissionDenied",
    Reason.SESSION_LOST: "SessionLost",
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
    def packed(message: Any) -> any_pb2.Any:
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


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, StatewiseError) and not name.startswith("_")
    }
    drawn = {line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    assert drawn | {"StatewiseError"} == kinds
    assert kinds <= set(statewise.client.__all__)


def test_the_public_surface_is_sorted_and_complete() -> None:
    names = statewise.client.__all__
    assert names == sorted(names)
    assert all(getattr(statewise.client, name).__doc__ for name in names)


def offered() -> list[Any]:
    """Every public method of what the package offers."""
    classes = [getattr(statewise.client, name) for name in statewise.client.__all__]
    return [
        pytest.param(method, id=f"{kind.__name__}.{name}")
        for kind in classes
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]


@pytest.mark.parametrize("method", offered())
def test_a_method_tells_its_errors_and_shows_an_example(method: Any) -> None:
    assert method.__doc__
    if issubclass(getattr(statewise.client, method.__qualname__.split(".")[0]), StatewiseError):
        return
    assert "Example:\n" in method.__doc__
    assert "Raises:\n" in method.__doc__ or method.__name__ in ("close", "stream")
    told = method.__doc__.partition("Raises:")[2].partition("Example:")[0]
    for line in told.splitlines():
        for error in re.findall(r"\b[A-Z]\w+", line.partition(":")[0]):
            assert hasattr(statewise.client, error), error


@pytest.mark.parametrize("name", statewise.client.__all__)
def test_no_type_of_the_transport_is_in_the_public_surface(name: str) -> None:
    kind = getattr(statewise.client, name)
    assert not [base for base in kind.__mro__ if base.__module__.split(".")[0] in ("grpc", "google")]
    members = [kind.__init__, *(member for name, member in vars(kind).items() if not name.startswith("_"))]
    hints = [vars(kind).get("__annotations__", {})]
    for member in members:
        function = member.fget if isinstance(member, property) else member
        hints.append(getattr(function, "__annotations__", {}))
    for annotation in (
        str(hint) for group in hints for key, hint in group.items() if not key.startswith("_")
    ):
        assert not re.search(r"grpc|_pb2|google", annotation), annotation


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (
            {"grpc", "grpc_status"},
            {"transport/_async_connection.py", "transport/_channel.py", "transport/_sync_connection.py"},
        ),
        (
            {"asyncio", "threading"},
            {
                "_async/_deadlines.py",
                "_async/_generation.py",
                "_async/_score.py",
                "_async/_shell.py",
                "_sync/_shell.py",
                "transport/_async_connection.py",
            },
        ),
    ],
    ids=["transport", "waiting"],
)
def test_only_the_shells_know_the_transport(modules: set[str], expected: set[str]) -> None:
    folder = inspect.getfile(statewise.client).removesuffix("__init__.py")
    from pathlib import Path

    knowing = set()
    for path in Path(folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] in modules for name in names):
                knowing.add(path.relative_to(folder).as_posix())
    assert knowing == expected
