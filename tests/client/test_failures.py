"""The contract's table of failures, from a real server: each exception, and that it says what to do."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from statewise.client import (
    InternalError,
    InvalidInput,
    InvalidSnapshot,
    LimitReached,
    ModelChanged,
    ModelNotFound,
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
    Unauthenticated,
    Unavailable,
)
from statewise.service import Scope, Server, add_token
from statewise.service.registry import ModelRegistry
from statewise.service.testing import server_in_thread
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, TensorSpec

SAMPLE = np.zeros(3, np.float32)


@contextmanager
def raises(kind: type[StatewiseError], found: str, advice: str) -> Iterator[Any]:
    """The exception itself, with what was found and what can be done in its message."""
    with pytest.raises(kind, match=found) as caught:
        yield caught
    assert type(caught.value) is kind
    assert advice in str(caught.value), str(caught.value)


@pytest.fixture
def serving(repository: Path, connect: Any) -> Iterator[Callable[..., Any]]:
    """Serves with settings of one's own; gives a client of that server."""
    with ExitStack() as servers:

        def serve(folder: Path = repository, **settings: Any) -> Any:
            return connect(servers.enter_context(server_in_thread(folder, **settings)))

        yield serve


class TestNotFound:
    def test_model(self, client: Any) -> None:
        with raises(ModelNotFound, "'nowhere'", "models() lists what is served"):
            client.predict("nowhere", SAMPLE[None])
        with raises(ModelNotFound, "version 9", "models() lists what is served"):
            client.session("steps", version=9).step(SAMPLE)

    def test_session(self, client: Any) -> None:
        with raises(SessionNotFound, "'gone'", "session() opens one"):
            client.resume("gone").step(SAMPLE)

    def test_session_that_expired(self, serving: Any) -> None:
        client = serving(idle_timeout_s=0.05)
        session = client.session("steps", id="dozes")
        while client.list_sessions():
            pass
        with raises(SessionExpired, "'dozes'", "step more often"):
            session.step(SAMPLE)
        with raises(SessionExpired, "'dozes'", "open a new one"):
            client.resume("dozes").step(SAMPLE)


class TestInvalid:
    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (np.full((2, 3), np.nan, np.float32), "finite numbers; got nan"),
            (np.full((2, 3), np.inf, np.float32), "finite numbers; got inf"),
            (np.zeros((2, 4), np.float32), r"got float32 of shape \[2, 4\]"),
            (np.zeros((1, 1, 2, 3), np.float32), r"\[T, 3\].*got float32 of shape \[1, 1, 2, 3\]"),
            (np.zeros((0, 3), np.float32), "at least one time step"),
            (np.zeros((2, 3), "datetime64[s]"), "got datetime64"),
            ({"z": np.zeros((2, 3), np.float32)}, r"\['x'\]; got \['z'\]"),
        ],
    )
    def test_tensor(self, client: Any, value: Any, found: str) -> None:
        with raises(InvalidInput, found, "expected"):
            client.predict("steps", value)
        with client.session("steps") as session, raises(InvalidInput, found, "expected"):
            session.step(value)

    @pytest.mark.parametrize(
        ("batch", "found"),
        [
            (np.zeros((0, 2, 3), np.float32), r"at least one row; got shape \[0, 2, 3\]"),
            ([], "at least one row; got an empty list"),
            ([np.zeros((2, 3)), np.zeros((0, 3))], r"got shape \[0, 3\] at index 1"),
        ],
    )
    def test_batch(self, client: Any, batch: Any, found: str) -> None:
        with raises(InvalidInput, found, "expected"):
            client.predict("steps", batch)

    def test_token(self, serving: Any, tmp_path: Path) -> None:
        client = serving(table_of_four(tmp_path, vocabulary_size=4))
        for token in (4, -1):
            with raises(InvalidInput, f"got {token}$", "expected tokens from 0 to 3"):
                client.predict("table", [0, 3, token])

    @pytest.mark.parametrize("session_id", ["", "x" * 129])
    def test_request(self, client: Any, session_id: str) -> None:
        with raises(InvalidInput, "1 to 128 printable", "expected"):
            client.session("steps", id=session_id).step(SAMPLE)

    def test_call(self, client: Any) -> None:
        with raises(InvalidInput, "does not generate", "predict()"):
            next(client.generate("steps", steps=3))

    def test_snapshot(self, serving: Any) -> None:
        ours, theirs = serving(snapshot_key="ours"), serving(snapshot_key="theirs")
        with ours.session("steps") as session:
            session.step(SAMPLE)
            token = session.snapshot()
        advice = "only unaltered bytes from snapshot()"
        with raises(InvalidSnapshot, "altered", advice):
            ours.restore(token[:-1] + bytes([token[-1] ^ 1])).step(SAMPLE)
        with raises(InvalidSnapshot, "no snapshot", advice):
            ours.restore(b"made up").step(SAMPLE)
        with raises(InvalidSnapshot, "key", advice):
            theirs.restore(token).step(SAMPLE)


class TestSessions:
    def test_an_id_in_use(self, client: Any) -> None:
        with client.session("steps", id="taken") as session:
            with raises(SessionExists, "'taken'", "choose another id"):
                client.session("last", id="taken").step(SAMPLE)
            session.close()

    def test_a_position_that_another_made(self, server_to_restart: Any, connect: Any) -> None:
        with server_to_restart() as (address, restart):
            session = connect(address).session("steps", id="shared")
            session.step(SAMPLE)
            restart()
            connect(address).session("steps", id="shared").step(np.zeros((5, 3)))
            with raises(PositionMismatch, "position 1", "resume() takes") as caught:
                session.step(SAMPLE)
            assert caught.value.position == 5

    def test_a_model_without_state(self, client: Any) -> None:
        with raises(NotStreamable, "both", "predict() runs it"):
            client.session("both").step(SAMPLE)

    def test_another_model_under_the_same_version(
        self, serving: Any, repository: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(repository / "steps" / "1", other / "steps" / "2")
        with serving(snapshot_key="k").session("steps") as session:
            session.step(SAMPLE)
            token = session.snapshot()
        changed = serving(other, snapshot_key="k")
        with raises(ModelChanged, "steps", "serve the old version beside"):
            changed.restore(token).step(SAMPLE)

    def test_resumed_elsewhere(self, client: Any, connect: Any, address: str) -> None:
        session = client.session("steps", id="wanders")
        connect(address).resume("wanders")
        with raises(SessionMoved, "'wanders'", "resume() takes the session over again"):
            session.step(SAMPLE)
        client.resume("wanders").close()

    def test_a_state_that_is_gone(self, server_to_restart: Any, connect: Any) -> None:
        with server_to_restart() as (address, restart):
            session = connect(address, replay_bytes=0).session("steps", id="forgotten")
            session.step(SAMPLE)
            restart()
            with raises(SessionLost, "'forgotten'", "open a new session and feed it from the start"):
                session.step(SAMPLE)


class TestLimits:
    def test_a_full_queue(self, serving: Any) -> None:
        client = serving(queue_steps=100)
        with raises(Overloaded, "100", "try again in") as caught:
            client.predict("steps", np.zeros((200, 3)))
        assert caught.value.retry_after_s > 0
        assert str(caught.value).count("try again") == 1

    def test_sessions(self, serving: Any) -> None:
        client = serving(sessions=2)
        kept = [client.session("steps") for _ in range(2)]
        with raises(LimitReached, "2 sessions are open.* close some", "server().limits shows"):
            client.session("steps").step(SAMPLE)
        for session in kept:
            session.close()

    def test_bytes_of_state(self, serving: Any) -> None:
        client = serving(state_bytes=200)
        with client.session("steps"), raises(LimitReached, "bytes: close some", "server().limits shows"):
            client.session("steps").step(SAMPLE)

    def test_time_steps_of_a_request(self, serving: Any) -> None:
        client = serving(request_steps=50)
        with raises(LimitReached, "got 51", "server().limits shows"):
            client.predict("steps", np.zeros((51, 3)))

    def test_a_message_that_the_transport_refuses(self, repository: Path, connect: Any) -> None:
        with server_in_thread(repository) as address:
            client = connect(address)
            client.server()  # the limits of before
        with server_in_thread(repository, listen=address, message_bytes=64 * 1024):
            until_reached(client)
            with raises(LimitReached, "larger than max", "server().limits shows"):
                client.predict("steps", np.zeros((20_000, 3)))


class TestGoingAway:
    def test_nobody_listens(self, connect: Any) -> None:
        with raises(Unavailable, r"127\.0\.0\.1:1", "is a server running there"):
            connect("127.0.0.1:1").models()

    def test_a_server_that_shuts_down(self, repository: Path, connect: Any) -> None:
        leave, entered = threading.Event(), threading.Event()
        addresses: list[str] = []

        def serve() -> None:
            with server_in_thread(repository) as address:
                addresses.append(address)
                entered.set()
                leave.wait()

        with ThreadPoolExecutor(1) as pool:
            serving = pool.submit(serve)
            entered.wait()
            client = connect(addresses[0])
            client.predict("steps", SAMPLE[None])
            leave.set()
            told = str(until_refused(client))
            serving.result()
        # Which of them it is depends on how far the server has come.
        advices = ("connect to another one", "is a server running there", "ask again")
        assert any(advice in told for advice in advices), told

    def test_a_server_that_takes_nothing_new(self, repository: Path, connect: Any) -> None:
        following, draining, go_on = threading.Event(), threading.Event(), threading.Event()

        class Registry(ModelRegistry):
            async def follow(self) -> None:
                """Keeps the server from going on with its end."""
                following.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    draining.set()
                    await asyncio.to_thread(go_on.wait, 60)

        make_server = partial(Server, make_models=Registry)
        with ExitStack() as server, ThreadPoolExecutor(1) as pool:
            address = server.enter_context(
                server_in_thread(repository, make_server=make_server, repository_poll_s=0.01)
            )
            client = connect(address, reconnect_s=0)
            client.predict("steps", SAMPLE[None])
            assert following.wait(60)
            stopping = pool.submit(server.close)
            try:
                assert draining.wait(60)
                with raises(Unavailable, "shutting down", "connect to another one"):
                    client.predict("steps", SAMPLE[None])
                with raises(Unavailable, "shutting down", "connect to another one"):
                    client.session("steps").step(SAMPLE)
            finally:
                go_on.set()
            stopping.result()

    def test_a_package_that_cannot_be_loaded(self, serving: Any, repository: Path, tmp_path: Path) -> None:
        (tmp_path / "broken" / "1").mkdir(parents=True)
        (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"no graph")
        shutil.copytree(repository / "last", tmp_path / "last")
        client = serving(tmp_path)
        with raises(ModelNotFound, "'broken'", "models() lists what is served"):
            client.predict("broken", SAMPLE[None])
        (broken,) = (model for model in client.models() if model.name == "broken")
        assert broken.status == "failed"
        assert "cannot load it" in broken.failure


def until_reached(client: Any) -> None:
    while True:
        try:
            client.models()
        except Unavailable:
            continue
        return


def until_refused(client: Any) -> Unavailable:
    try:
        while True:
            client.predict("steps", SAMPLE[None])
    except Unavailable as error:
        return error


class TestTime:
    def test_a_deadline(self, serving: Any) -> None:
        client = serving(message_bytes=64 * 1024 * 1024)
        with raises(Timeout, ".", "pass a larger timeout="):
            client.predict("last", np.zeros((1_000_000, 3)), timeout=0.1)
        with client.session("steps") as session:
            with raises(Timeout, ".", "whether a step was applied"):
                session.step(np.zeros((1_000_000, 3)), timeout=0.1)
            session.step(SAMPLE)
            assert session.position == 1


class TestCallers:
    @pytest.fixture
    def enter(self, repository: Path, tmp_path: Path, connect: Any) -> Iterator[Callable[..., Any]]:
        callers = tmp_path / "callers.toml"
        both = [Scope.PREDICT, Scope.SESSION]
        tokens = {
            owner: add_token(callers, owner, scopes)
            for owner, scopes in {"ann": both, "bob": both, "scorer": [Scope.PREDICT]}.items()
        }
        with server_in_thread(repository, callers=callers, snapshot_key="k", owner_sessions=1) as address:
            yield lambda owner: connect(address, token=tokens.get(owner, owner))

    @pytest.mark.parametrize("token", [None, "made up"])
    def test_nobody_knows_them(self, enter: Any, token: str | None) -> None:
        with raises(Unauthenticated, "token", "pass token="):
            enter(token).predict("steps", SAMPLE[None])
        with raises(Unauthenticated, "token", "pass token="):
            enter(token).session("steps").step(SAMPLE)

    def test_their_scope_does_not_reach(self, enter: Any) -> None:
        scorer = enter("scorer")
        assert scorer.predict("steps", SAMPLE[None]).shape == (1, 2)
        with raises(PermissionDenied, "session", "ask the server's operator for the scope"):
            scorer.session("steps").step(SAMPLE)

    def test_what_is_anothers_does_not_exist(self, enter: Any) -> None:
        ann, bob = enter("ann"), enter("bob")
        with ann.session("steps", id="diary") as session:
            session.step(SAMPLE)
            with raises(SessionNotFound, "'diary'", "list_sessions() shows those that are open"):
                bob.resume("diary").step(SAMPLE)
            with raises(InvalidSnapshot, "owner", "of the same owner"):
                bob.restore(session.snapshot()).step(SAMPLE)
            assert [info.id for info in bob.list_sessions()] == []

    def test_their_share_is_used_up(self, enter: Any) -> None:
        ann, bob = enter("ann"), enter("bob")
        told = raises(LimitReached, "1 sessions of this owner", "close some; server().limits shows")
        with ann.session("steps"), bob.session("steps"), told:
            ann.session("steps").step(SAMPLE)


def table_of_four(folder: Path, *, vocabulary_size: int | None = None) -> Path:
    """A repository of one model, whose graph fails on tokens of 4 and above."""
    spec = ModelSpec(
        inputs=(TensorSpec("x", "int64", (), vocabulary_size=vocabulary_size),),
        outputs=(TensorSpec("y", "float32", (2,)),),
        state=(),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    table = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "table")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["T", "B"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "B", 2])],
        initializer=[table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    (folder / "table" / "1").mkdir(parents=True)
    onnx.save(model, folder / "table" / "1" / "model.onnx")
    return folder


class TestFaults:
    def test_an_unknown_fault_is_told_in_the_log_alone(
        self, serving: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = serving(table_of_four(tmp_path))
        np.testing.assert_array_equal(client.predict("table", [1, 2]), [[2, 3], [4, 5]])
        with raises(InternalError, "failed on this row", "the server's log has the detail") as caught:
            client.predict("table", [1, 9])
        assert "Gather" in caplog.text
        assert "Gather" not in str(caught.value)
