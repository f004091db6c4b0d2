"""Sends what a server refuses: each exception says what was found and what to do."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.errors.expectations import SAMPLE, raises
from tests.client.errors.token_table import write_token_table
from tests.client.restarts import RestartableServer

from statewise.client import (
    Client,
    InvalidInput,
    InvalidSnapshot,
    ModelChanged,
    ModelNotFound,
    NotStreamable,
    SessionExists,
    SessionExpired,
    SessionLost,
    SessionMoved,
    SessionNotFound,
)


class TestNotFound:
    def test_model(self, client: Client) -> None:
        with raises(ModelNotFound, "'nowhere'", "models() lists what is served"):
            client.predict("nowhere", SAMPLE[None])
        with raises(ModelNotFound, "version 9", "models() lists what is served"):
            client.session("steps", version=9).step(SAMPLE)

    def test_session(self, client: Client) -> None:
        with raises(SessionNotFound, "'gone'", "session() opens one"):
            client.resume("gone").step(SAMPLE)

    def test_session_that_expired(self, clients: Clients, repository: Path) -> None:
        client = clients.serve(repository, idle_timeout_s=0.05)
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
            (np.full((2, 3), np.nan, np.float32), "finite numbers; got a missing"),
            (np.full((2, 3), np.inf, np.float32), "finite numbers; got inf"),
            (np.zeros((2, 4), np.float32), r"got float32 of shape \[2, 4\]"),
            (np.zeros((1, 1, 2, 3), np.float32), r"\[T, 3\].*got float32 of shape \[1, 1, 2, 3\]"),
            (np.zeros((0, 3), np.float32), "at least one time step"),
            (np.zeros((2, 3), "datetime64[s]"), "got elements of type datetime64"),
            ({"z": np.zeros((2, 3), np.float32)}, r"\['x'\]; got \['z'\]"),
        ],
    )
    def test_tensor(self, client: Client, value: object, found: str) -> None:
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
    def test_batch(self, client: Client, batch: object, found: str) -> None:
        with raises(InvalidInput, found, "expected"):
            client.predict("steps", batch)

    def test_token(self, clients: Clients, tmp_path: Path) -> None:
        client = clients.serve(write_token_table(tmp_path, vocabulary_size=4))
        for token in (4, -1):
            with raises(InvalidInput, f"got {token} at step 2$", "expected tokens from 0 to 3"):
                client.predict("table", [0, 3, token])

    @pytest.mark.parametrize("session_id", ["", "x" * 129])
    def test_request(self, client: Client, session_id: str) -> None:
        with raises(InvalidInput, "1 to 128 printable", "expected"):
            client.session("steps", id=session_id).step(SAMPLE)

    def test_call(self, client: Client) -> None:
        with raises(InvalidInput, "does not generate", "predict()"):
            next(client.generate("steps", steps=3))

    def test_snapshot(self, clients: Clients, repository: Path) -> None:
        ours, theirs = (clients.serve(repository, snapshot_key=key * 4) for key in ("ours", "theirs"))
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
    def test_an_id_in_use(self, client: Client) -> None:
        with client.session("steps", id="taken") as session:
            with raises(SessionExists, "'taken'", "choose another id"):
                client.session("last", id="taken").step(SAMPLE)
            session.close()

    def test_a_session_that_another_opened(self, repository: Path, clients: Clients) -> None:
        with RestartableServer(repository) as server:
            session = clients.connect(server.address).session("steps", id="shared")
            session.step(SAMPLE)
            server.restart()
            other = clients.connect(server.address).session("steps", id="shared")
            other.step(np.zeros((5, 3)))
            with raises(SessionMoved, "'shared'", "resume() takes"):
                session.step(SAMPLE)
            other.step(SAMPLE)
            assert (other.position, session.position) == (6, 1)

    def test_a_model_without_state(self, client: Client) -> None:
        with raises(NotStreamable, "both", "predict() runs it"):
            client.session("both").step(SAMPLE)

    def test_another_model_under_the_same_version(
        self, clients: Clients, repository: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(repository / "steps" / "1", other / "steps" / "2")
        with clients.serve(repository, snapshot_key="k" * 16).session("steps") as session:
            session.step(SAMPLE)
            token = session.snapshot()
        changed = clients.serve(other, snapshot_key="k" * 16)
        with raises(ModelChanged, "steps", "serve the old version beside"):
            changed.restore(token).step(SAMPLE)

    def test_resumed_elsewhere(self, client: Client, clients: Clients, address: str) -> None:
        session = client.session("steps", id="wanders")
        clients.connect(address).resume("wanders")
        with raises(SessionMoved, "'wanders'", "resume() takes the session over again"):
            session.step(SAMPLE)
        client.resume("wanders").close()

    def test_a_state_that_is_gone(self, repository: Path, clients: Clients) -> None:
        with RestartableServer(repository) as server:
            session = clients.connect(server.address, replay_bytes=0).session("steps", id="forgotten")
            session.step(SAMPLE)
            server.restart()
            with raises(SessionLost, "'forgotten'", "open a new session and feed it from the start"):
                session.step(SAMPLE)
