"""Fixtures of the tests that kill servers: a repository, and servers in processes of their own."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.helpers.models.generative import checkpoint_of
from tests.helpers.models.small import write_small_models
from tests.helpers.server_process import ServerProcesses
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.export import export_checkpoint


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the small model `steps`, `chatter`, and the encoder-decoder `speech`."""
    root = tmp_path_factory.mktemp("chaos")
    write_small_models(root)
    for folder in (root / "last", root / "both", root / "steps" / "1"):
        shutil.rmtree(folder)
    for name in ("chatter", "speech"):
        export_checkpoint(checkpoint_of(name), root, name=name)
    return root


@pytest.fixture
def servers(models: Path) -> Iterator[ServerProcesses]:
    """Starts servers of it, which end with the test."""
    with ExitStack() as running:
        yield ServerProcesses(models, running)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server with an append-only file that is synced at each write."""
    with redis_server("--appendfsync", "always") as server:
        yield server
