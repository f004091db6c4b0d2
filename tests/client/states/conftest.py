"""Fixtures of the tests of states: a server of models whose states have parts, and a sequence of letters."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.helpers.arrays import Array
from tests.helpers.models.generative import write_generative_models

from statewise.client import Client
from statewise.service.testing import server_in_thread


@pytest.fixture(scope="session")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of models that generate; `write_generative_models` says which."""
    root = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    return root


@pytest.fixture(scope="session")
def writers_address(generative: Path) -> Iterator[str]:
    """The address of a real server of them, which the folder's tests share."""
    with server_in_thread(generative) as address:
        yield address


@pytest.fixture
def writers(clients: Clients, writers_address: str) -> Client:
    """A client of that server."""
    return clients.connect(writers_address)


@pytest.fixture
def letters() -> Array:
    """Tokens of the model `letters`, [12]."""
    return np.array([1, 2, 3, 1, 3, 2, 2, 1, 1, 3, 2, 1])
