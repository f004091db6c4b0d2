"""Fixtures of the tests of given states: a repository of models that generate, and a server of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.models.generative import write_generative_models

from statewise.service.testing import running_server


@pytest.fixture(scope="session")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of models that generate; `write_generative_models` says which."""
    root = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    return root


@pytest.fixture
async def generative_caller(generative: Path) -> AsyncIterator[Caller]:
    """A caller connected to a real server of them."""
    async with running_server(generative) as address, connect(address) as caller:
        yield caller
