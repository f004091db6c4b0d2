"""Checks `statewise sessions` and `models`, and the connection options of every subcommand with a server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.cli.command import statewise

from statewise.client import Client
from statewise.service.testing import server_in_thread

LOG = """
<ir_version: 8, opset_import: ["" : 17]>
logs (float[batch, 1] x, float[batch, 1] s) => (float[batch, 1] y, float[batch, 1] s_out) {
    l = Log(x)
    s_out = Add(l, s)
    y = Identity(s_out)
}
"""


@pytest.fixture(scope="module")
def target(repository: Path) -> Iterator[str]:
    with server_in_thread(repository) as address:
        yield address


def test_open_sessions_are_listed_with_their_positions(target: str) -> None:
    with Client(target) as client:
        first = client.session("gait", id="ankle")
        first.step(np.zeros((7, 9), np.float32))
        second = client.session("vowels", id="mouth")
        found = statewise("sessions", "--target", target, "--json").json["sessions"]
        assert [session["id"] for session in found] == ["mouth", "ankle"]
        assert found[1]["position"] == 7
        assert found[1].keys() >= {"owner", "model", "version", "durable_position", "epoch", "idle_s"}
        only = statewise("sessions", "--target", target, "--model", "gait").out
        assert "ankle" in only
        assert "mouth" not in only
        first.close()
        second.close()
    assert statewise("sessions", "--target", target, "--json").json == {"sessions": []}
    assert statewise("sessions", "--target", target).err == "no session was found\n"
    advice = statewise("sessions", "ankle-sensor").err.replace("│", " ")
    assert "perhaps you mean `statewise sessions show ankle-sensor`" in " ".join(advice.split())


def test_sleeping_sessions_are_listed_as_such(repository: Path, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'sessions.db'}"
    with server_in_thread(repository, store=store) as target, Client(target) as client:
        for name in ("ankle", "wrist", "hip"):
            client.session("gait", id=name)
    with server_in_thread(repository, store=store) as target, Client(target) as client:
        client.resume("wrist")
        found = statewise("sessions", "--target", target, "--json").json["sessions"]
        assert {one["id"]: one["state"] for one in found} == {
            "ankle": "asleep",
            "wrist": "awake",
            "hip": "asleep",
        }
        only = statewise("sessions", "--target", target, "--state", "asleep")
        assert only.out.count("asleep") == 2
        assert "wrist" not in only.out
        few = statewise("sessions", "--target", target, "--limit", "2")
        assert few.out.count("gait") == 2
        assert "more than these 2 sessions" in few.err


def test_states_that_are_not_finite_are_listed_as_such(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(LOG), tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "1" / "model.toml").write_text('[[state]]\ninput = "s"\noutput = "s_out"\n')
    with (
        server_in_thread(tmp_path) as target,
        Client(target) as client,
        client.session("m", id="good") as good,
        client.session("m", id="bad") as bad,
    ):
        good.step(np.ones(1, np.float32))
        bad.step(np.zeros(1, np.float32))
        found = statewise("sessions", "--target", target, "--json").json["sessions"]
        assert {one["id"]: one["nonfinite_state"] for one in found} == {"good": False, "bad": True}
        assert statewise("sessions", "--target", target).out.count("not finite") == 1


def test_models_are_listed_with_the_fewest_steps_that_they_take(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "vowels" / "1", tmp_path / "vowels" / "1")
    (tmp_path / "vowels" / "1" / "model.toml").write_text("least_steps = 3")
    with server_in_thread(tmp_path) as target:
        assert statewise("models", "--target", target, "--json").json["models"][0]["least_steps"] == 3
        assert "least 3 steps" in " ".join(statewise("models", "--target", target).out.split())


def test_the_target_may_come_from_the_environment(target: str) -> None:
    assert statewise("models", env={"STATEWISE_TARGET": target}).code == 0


@pytest.mark.parametrize("option", ["--token-file", "--tls-ca"])
def test_a_missing_file_is_named(target: str, option: str) -> None:
    assert "nowhere" in statewise("models", "--target", target, option, "nowhere").complaint


def test_a_certificate_needs_its_key(target: str) -> None:
    assert statewise("models", "--target", target, "--tls-certificate", "c.pem").code == 2


def test_a_server_without_tls_is_refused(target: str) -> None:
    assert statewise("models", "--target", target, "--tls").complaint
