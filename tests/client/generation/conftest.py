"""Fixtures of the tests that generate: a repository of models that do, and a server of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.models.generative import write_generative_models

from statewise.service.testing import server_in_thread


@pytest.fixture(scope="session")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of models that generate; `write_generative_models` says which."""
    root = tmp_path_factory.mktemp("generative")
    write_generative_models(root)
    return root


@pytest.fixture(scope="session")
def address(generative: Path) -> Iterator[str]:
    """The address of a real server of them, which the folder's tests share."""
    with server_in_thread(generative) as address:
        yield address
