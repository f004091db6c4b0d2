"""Checks `statewise sessions`, and the connection options of every subcommand with a server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import statewise

from statewise.client import Client
from statewise.service.testing import server_in_thread


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


def test_the_target_may_come_from_the_environment(target: str) -> None:
    assert statewise("models", env={"STATEWISE_TARGET": target}).code == 0


@pytest.mark.parametrize("option", ["--token-file", "--tls-ca"])
def test_a_missing_file_is_named(target: str, option: str) -> None:
    assert "nowhere" in statewise("models", "--target", target, option, "nowhere").complaint


def test_a_certificate_needs_its_key(target: str) -> None:
    assert statewise("models", "--target", target, "--tls-certificate", "c.pem").code == 2


def test_a_server_without_tls_is_refused(target: str) -> None:
    assert statewise("models", "--target", target, "--tls").complaint
