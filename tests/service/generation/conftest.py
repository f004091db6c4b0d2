"""Fixtures of the tests that generate: a repository of models that do, and a server of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.helpers.models.generative import write_generative_models

from statewise.service.testing import running_server


@pytest.fixture(scope="session")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of models that generate; `write_generative_models` says which."""
    root = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    return root


@pytest.fixture
async def address(generative: Path) -> AsyncIterator[str]:
    """The address of a real server of them."""
    async with running_server(generative) as address:
        yield address
