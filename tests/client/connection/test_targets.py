"""Connects to targets: what is no target is told."""

import pytest
from tests.client.clients import Clients

from statewise.client import Client, InvalidInput, LimitReached


@pytest.mark.parametrize(
    "target", ["localhost", "dns:///models.internal", "ipv4:10.0.0.1", "a b:1", ":1", "a:", 5]
)
def test_a_target_without_a_port_is_refused(target: str) -> None:
    with pytest.raises(InvalidInput, match=r"^target: expected HOST:PORT"):
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
        with pytest.raises(InvalidInput, match="count: expected a whole number from 1"):
            client.sessions("steps", count=count)  # type: ignore[arg-type]
