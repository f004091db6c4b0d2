"""Connects to targets: what is no target is told, and this machine is never reached through a proxy."""

import os
import subprocess
import sys

import pytest
from tests.client.clients import Clients

from statewise.client import Client, InvalidInput, LimitReached

PROGRAM = """
import sys
from statewise.client import Client
with Client(sys.argv[1], timeout=20) as client:
    print(client.server().version)
"""


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize(
    "target", ["127.0.0.1:{}", "localhost:{}", "dns:///localhost:{}", "ipv4:127.0.0.1:{}"]
)
def test_this_machine_is_not_reached_through_a_proxy(address: str, variable: str, target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, target.format(address.rpartition(":")[2])],
        env={**os.environ, variable: "http://127.0.0.1:9", "no_proxy": ""},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "target", ["localhost", "dns:///models.internal", "ipv4:10.0.0.1", "a b:1", ":1", "a:", 5]
)
def test_a_target_without_a_port_is_refused(target: str) -> None:
    with pytest.raises(InvalidInput, match="expected a target HOST:PORT"):
        Client(target)


@pytest.mark.parametrize(
    "target", ["[::1]:1", "dns:///a:1", "ipv4:10.0.0.1:1,10.0.0.2:2", "unix:/tmp/x", "a:1"]
)
def test_targets_as_grpc_writes_them_are_taken(target: str) -> None:
    Client(target).close()


def test_more_sessions_than_the_server_holds_are_refused_before_one_is_opened(
    clients: Clients, address: str
) -> None:
    client = clients.connect(address)
    open_before = {each.id for each in client.list_sessions()}
    limit = client.server().limits.sessions
    with pytest.raises(LimitReached, match=f"expected at most {limit} sessions"):
        client.sessions("steps", count=10**7 + limit)
    assert {each.id for each in client.list_sessions()} == open_before
    for count in (0, -1, "3", 1.5):
        with pytest.raises(InvalidInput, match="expected at least one session; got count="):
            client.sessions("steps", count=count)  # type: ignore[arg-type]
