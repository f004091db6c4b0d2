"""Sends a request, without credentials, whose path is not UTF-8: the server serves on, and logs little."""

from pathlib import Path

from tests.cli.command import Server
from tests.helpers.attacks.http2 import Connection

from statewise.client import Client


def test_new_connections_are_served(repository: Path) -> None:
    with Server(repository) as server:
        before = len(server.log)
        with Connection(server.target) as attacker:
            attacker.call("/\udce9x")
            assert attacker.trailers()
        with Client(server.target) as client:
            assert {model.name for model in client.models()} == {"steps", "last", "both"}
        assert len(server.log) - before < 8_000, server.log
