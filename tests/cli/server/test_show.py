"""Checks `statewise sessions show` and `statewise checkpoints` against the client library."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import statewise

from statewise.client import Client, Session
from statewise.service.auth import Scope, add_token
from statewise.service.testing import server_in_thread

SAMPLES = np.random.default_rng(3).standard_normal((9, 9)).astype(np.float32)


@pytest.fixture(scope="module")
def target(repository: Path) -> Iterator[str]:
    with server_in_thread(repository) as address:
        yield address


@pytest.fixture(scope="module")
def session(target: str) -> Iterator[Session]:
    """A session at position 9 with two checkpoints."""
    with Client(target) as client:
        session = client.session("gait", id="ankle", keep=4)
        session.checkpoint("begin")
        session.step(SAMPLES[:4])
        session.checkpoint("[bold]")
        session.step(SAMPLES[4:])
        yield session


def test_a_session_is_described(target: str, session: Session) -> None:
    found = statewise("sessions", "show", "ankle", "--target", target, "--json").json
    assert found.keys() >= {"owner", "epoch", "idle_s", "durable_position", "damaged", "version"}
    assert (found["id"], found["model"], found["position"]) == ("ankle", "gait", 9)
    assert (found["keep"], found["state"], "arrays" in found) == (4, "awake", False)
    shown = statewise("sessions", "show", "ankle", "--target", target)
    assert (shown.code, shown.err) == (0, "")
    for text in ("ankle", "gait/1", " 9 ", "its last 4 requests", "awake", "begin", "[bold]"):
        assert text in shown.out
    assert [each["name"] for each in found["checkpoints"]] == ["begin", "[bold]"]
    assert sum(each["size_bytes"] for each in found["checkpoints"]) <= found["checkpoint_bytes"]
    assert session.position == 9


def test_its_state_is_shown_by_part(target: str, session: Session) -> None:
    words = ("sessions", "show", "ankle", "--target", target, "--state")
    arrays = statewise(*words, "--json").json["arrays"]
    state = session.state()
    assert list(arrays) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(np.array(arrays[name], np.float32), array)
    lines = statewise(*words).out.splitlines()
    for name, array in state.items():
        [line] = [line for line in lines if f" {name} " in line]
        assert f" float32 │ {len(array)} " in line
        assert f" {array.min():.4g} " in line
        assert f" {array.max():.4g} " in line


def test_checkpoints_are_listed(target: str, session: Session) -> None:
    found = statewise("checkpoints", "ankle", "--target", target, "--json").json
    assert found["session"] == "ankle"
    for told, made in zip(found["checkpoints"], session.checkpoints(), strict=True):
        assert told == {
            "name": made.name,
            "position": made.position,
            "origin": "ankle",
            "made_at": made.made_at.isoformat(),
            "size_bytes": made.size_bytes,
        }
    shown = statewise("checkpoints", "--target", target, "ankle")
    assert (shown.code, shown.err) == (0, "")
    assert "[bold]" in shown.out
    assert f"{session.checkpoints()[0].made_at:%Y-%m-%d %H:%M:%S} UTC" in shown.out
    with session.fork() as fork:
        none = statewise("checkpoints", "--target", target, fork.id)
        assert (none.code, none.err) == (0, f"session {fork.id!r} has no checkpoints\n")


def test_a_session_that_sleeps_is_shown_where_it_is(repository: Path, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'sessions.db'}"
    with server_in_thread(repository, store=store) as target, Client(target) as client:
        session = client.session("gait", id="ankle")
        session.step(SAMPLES)
        session.checkpoint("kept")
        state = session.state()
    with server_in_thread(repository, store=store) as target:
        for _ in range(2):
            found = statewise("sessions", "show", "ankle", "--state", "--target", target, "--json").json
            assert (found["state"], found["position"], found["durable_position"]) == ("asleep", 9, 9)
            assert [each["name"] for each in found["checkpoints"]] == ["kept"]
            for name, array in state.items():
                np.testing.assert_array_equal(np.array(found["arrays"][name], np.float32), array)


@pytest.mark.parametrize("words", [("sessions", "show"), ("checkpoints",)], ids=" ".join)
def test_an_unknown_session_is_told_in_the_commands_words(target: str, words: tuple[str, ...]) -> None:
    done = statewise(*words, "nobody", "--target", target)
    assert "'nobody'" in done.complaint
    assert done.complaint.endswith("`statewise sessions` lists those that are open")
    assert statewise(*words, "--target", target).code == 2


def test_another_owners_session_is_shown_to_an_admin_without_its_state(
    repository: Path, tmp_path: Path
) -> None:
    callers = tmp_path / "callers.toml"
    token = add_token(callers, "ann", [Scope.SESSION])
    (tmp_path / "admin").write_text(add_token(callers, "operator", [Scope.ADMIN]))
    (tmp_path / "bob").write_text(add_token(callers, "bob", [Scope.SESSION]))
    with server_in_thread(repository, callers=callers, insecure=True) as target:
        with Client(target, token=token) as client:
            client.session("gait", id="diary").checkpoint("kept")
        words = ("diary", "--owner", "ann", "--target", target, "--token-file")
        found = statewise("sessions", "show", *words, tmp_path / "admin", "--json").json
        assert (found["owner"], found["position"]) == ("ann", 0)
        assert "ann" in statewise("sessions", "show", *words, tmp_path / "admin").out
        assert "kept" in statewise("checkpoints", *words, tmp_path / "admin").out
        refused = statewise("sessions", "show", *words, tmp_path / "admin", "--state").complaint
        assert refused == (
            "--state: a session's state is shown to its owner alone; use the owner's credentials"
        )
        assert statewise("checkpoints", *words, tmp_path / "bob").complaint


def test_options_of_the_listing_stay_with_the_listing(target: str, session: Session) -> None:
    done = statewise("sessions", "--target", target, "show", session.id)
    assert (done.code, done.out) == (2, "")
    assert "expected options of show after it; got --target before it" in done.err
    misspelt = statewise(
        "sessions", "show", session.id, "--target", target, env={"STATEWISE_CLIENT_TOKENFILE": "token"}
    )
    assert misspelt.err.count("is STATEWISE_CLIENT_TOKEN_FILE meant?") == 1
