"""Walks the public signatures and passes values of wrong types: each is InvalidInput that names the argument.

An argument without a check fails here, and so does one of a type for which this table has no wrong values.
"""

import inspect
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.helpers.models.generative import write_generative_models

from statewise.client import (
    AsyncClient,
    AsyncSession,
    AsyncSessionGroup,
    Client,
    InvalidInput,
    Progress,
    Session,
    SessionGroup,
    Tls,
)
from statewise.client.values import brief
from statewise.service.testing import server_in_thread


class Broken:
    """Behaves like another library's array that gives none."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("it requires grad")

    def __repr__(self) -> str:
        return "it requires grad"


NO_TEXT = [5, b"text", True, ["text"], 1.5, "\ud800"]
NO_WHOLE = ["1", 1.5, True, [1], -1, 2**70, np.float64(1), np.True_]
NO_NUMBER = ["1", True, [1.0], 1j, float("nan"), float("inf"), -1.0, np.array([1.0])]
NO_FLAG = ["yes", 1, 0.0, [True]]
NO_STATE = [5, "state", [0.0], {}, {1.5}, Broken()]
NO_POSITIONS = ["1", 1.5, True, [1], -1, 2**70, [[1, 2]], [1, 2, 3, 4], {1}, Broken()]
NO_INPUT = [{1.5}, object(), Broken()]

WRONG: dict[Any, Sequence[Any]] = {
    str: [*NO_TEXT, None],
    str | None: NO_TEXT,
    int: [*NO_WHOLE, None],
    int | None: NO_WHOLE,
    float: [*NO_NUMBER, None],
    float | None: NO_NUMBER,
    bool: [*NO_FLAG, None],
    bool | None: NO_FLAG,
    bytes: ["text", 5, None, [1], True],
    Sequence[str] | None: ["text", b"text", 5, True, {"a"}, {"a": 1}],
    Iterable[object]: [5, None, object()],
    Iterable[object] | AsyncIterable[object]: [5, None, object()],
    Mapping[str, str | int] | None: [5, "text", ["text"]],
    Tls | bool | None: ["yes", 1, Path("ca.pem")],
    Path | str | None: [5, b"ca.pem", True],
    Literal["awake", "asleep"] | None: [5, "tired", ["awake"]],
    Literal["interval", "reply"] | None: [5, "never", ["reply"]],
    bool | Callable[[Progress], None]: ["yes", 1, None],
    bool | int: ["1", 1.5, None, [1], 0, -1, 65, 2**70, np.float64(1)],
    str | int | None: [b"text", True, 1.5, ["text"], "\ud800", -1, 2**70],
    Mapping[str, Any]: [*NO_STATE, None],
    Mapping[str, Any] | None: NO_STATE,
}
"""By the type that is declared."""

WRONG_BY_NAME: dict[str, Sequence[Any]] = {
    "tracer_provider": [5, "text", object()],
    "inputs": NO_INPUT,
    "prompt": NO_INPUT,
    "condition": NO_INPUT,
    "position": NO_POSITIONS,
    "index": [1.5, "text", {1}, object(), [0, "a"], [[0], [1, 2]], Broken(), 0, [0, 0], [9]],
    "source": [5, object(), 1.5],
}
"""Of arguments that take any object."""

CALLED = {"inputs": ("input",), "name": ("name", "model")}
"""What messages call an argument, other than its own name alone."""


def arguments(method: Callable[..., Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yields each argument of a method with its wrong values."""
    hints = get_type_hints(method)
    for name in inspect.signature(method).parameters:
        if name in hints and hints[name] not in (object, Any):
            yield name, WRONG[hints[name]]
        elif name != "self":
            yield name, WRONG_BY_NAME[name]


def methods(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")]


def consume(result: Any) -> Any:
    """Runs what is only run when its values are asked for."""
    return next(result) if inspect.isgenerator(result) else result


def expect_refusal(name: str, value: object, call: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        consume(call())
    message = str(caught.value)
    assert any(called in message for called in CALLED.get(name, (name,))), message
    assert "expected" in message
    assert brief(value) in message, message
    assert "\n" not in message


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of models that generate."""
    root = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    with server_in_thread(root) as address:
        yield address


GIVEN: dict[str, Any] = {
    "model": "letters",
    "name": "letters",
    "inputs": [1, 2],
    "source": [[1, 2]],
    "session_id": "kept",
    "token": b"token",
    "steps": 2,
    "state": {"state": [0.0] * 44},
}
"""Right values of arguments that have no default."""

KINDS = [(Client, Session, SessionGroup), (AsyncClient, AsyncSession, AsyncSessionGroup)]


@pytest.fixture(params=KINDS, ids=["blocking", "async"])
def kinds(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def connected(kinds: Any, target: str) -> Iterator[Client]:
    clients = Clients(kinds[0])
    yield clients.connect(target, reconnect_s=0)
    clients.close()


def given(method: Callable[..., Any], wrong: str) -> dict[str, Any]:
    """Right values of the other arguments that need one."""
    parameters = inspect.signature(method).parameters.items()
    return {
        name: GIVEN[name]
        for name, parameter in parameters
        if name not in ("self", wrong) and parameter.default is inspect.Parameter.empty
    }


def walk(kind: type, instance: Any, **options: dict[str, Any]) -> None:
    """Passes every wrong value to every method."""
    for method_name in methods(kind):
        method = getattr(kind, method_name)
        for name, wrong in arguments(method):
            others = given(method, name)
            others |= options.get(name, {}) if "inputs" in others else {}
            if method_name == "sessions" and name not in ("count", "ids"):
                others["count"] = 2
            for value in wrong:
                expect_refusal(
                    name, value, partial(getattr(instance, method_name), **others, **{name: value})
                )


def test_a_clients_methods(kinds: Any, connected: Client) -> None:
    walk(kinds[0], connected)
    assert connected.list_sessions() == []


def test_a_condition_of_an_encoder(connected: Client) -> None:
    for value in NO_INPUT:
        for method, several in (("session", {}), ("sessions", {"count": 2}), ("generate", {})):
            call = partial(getattr(connected, method), "speech", condition=value, **several)
            expect_refusal("condition", value, call)


def test_a_sessions_methods(kinds: Any, connected: Client) -> None:
    with connected.session("letters") as session:
        walk(kinds[1], session)
        assert session.position == 0


def test_a_groups_methods(kinds: Any, connected: Client) -> None:
    with connected.sessions("letters", count=3) as group:
        walk(kinds[2], group, index={"inputs": [1, 2]})
        assert group.positions.tolist() == [0, 0, 0]


def test_a_clients_settings(kinds: Any) -> None:
    threads = threading.active_count()
    for name, wrong in arguments(kinds[0].__init__):
        others = {} if name == "target" else {"target": "localhost:1"}
        for value in wrong:
            expect_refusal(name, value, partial(kinds[0], **others, **{name: value}))
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    "options", [{1: 1}, {"a": None}, {"a": 1.5}, {"a": True}, {"a": 2**31}, {"a": "\ud800"}]
)
def test_options_that_grpc_does_not_take(kinds: Any, options: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^channel_options, .*: expected a .*; got "):
        kinds[0]("localhost:1", channel_options=options)


def test_files_of_tls() -> None:
    for name, wrong in arguments(Tls.__init__):
        if name != "return":
            for value in wrong:
                expect_refusal(name, value, partial(Tls, **{name: value}))


def test_ids_of_a_group(connected: Client) -> None:
    for wrong in NO_TEXT[:-1]:
        with pytest.raises(InvalidInput, match=r"^ids, number 1: expected a text; got "):
            connected.sessions("letters", ids=["a", wrong])  # type: ignore[list-item]


def test_numbers_of_numpy_are_numbers(connected: Client) -> None:
    made = connected.generate(
        "letters",
        steps=np.int64(3),  # type: ignore[arg-type]
        temperature=np.float32(0.5),  # type: ignore[arg-type]
        top_k=np.uint8(2),  # type: ignore[arg-type]
        seed=np.uint64(2**64 - 1),  # type: ignore[arg-type]
        version=np.int32(1),  # type: ignore[arg-type]
        text=np.False_,  # type: ignore[arg-type]
        timeout=np.float64(60),
    )
    assert len(list(made)) <= 3
    group = connected.sessions("letters", count=np.int64(2), keep=np.False_)  # type: ignore[arg-type]
    assert len(group) == 2


@pytest.mark.parametrize("name", ["prompt", "condition"])
def test_texts_that_cannot_be_sent(connected: Client, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: expected a text of whole characters"):
        consume(connected.generate("letters", **{name: "\ud800"}))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="inputs: expected a text of whole characters"):
        connected.predict("letters", "\ud800")
    with pytest.raises(InvalidInput, match="inputs, row 1: expected a text; got None"):
        connected.predict("letters", ["a", None])
