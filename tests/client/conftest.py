"""Fixtures of the client's tests: a server, clients of both kinds, a relay whose connections can be cut."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.clients import Clients
from tests.client.relay import Relay
from tests.client.samples import sequences
from tests.helpers.arrays import Floats

from statewise.client import AsyncClient, Client
from statewise.service.testing import server_in_thread


@pytest.fixture(scope="session")
def address(repository: Path) -> Iterator[str]:
    """The address of a real server that all tests share."""
    with server_in_thread(repository) as address:
        yield address


@pytest.fixture(params=[Client, AsyncClient])
def clients(request: pytest.FixtureRequest) -> Iterator[Clients]:
    """Clients of one kind or the other."""
    clients = Clients(request.param)
    yield clients
    clients.close()


@pytest.fixture
def client(clients: Clients, address: str) -> Client:
    """A client of the server that all tests share."""
    return clients.connect(address)


@pytest.fixture
def relay(address: str) -> Iterator[Relay]:
    """A relay to the server that all tests share."""
    relay = Relay(address)
    yield relay
    relay.close()


@pytest.fixture
def x() -> Floats:
    """One sequence [20, 3]."""
    return sequences(20, seed=0)[0]
