"""Fixtures that all tests share: repositories of models, a server, and a caller connected to it."""

import statewise.service  # noqa: F401  # before anything else imports grpc, as in a server's process

# isort: split
import asyncio
import faulthandler
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels, write_small_models
from tests.helpers.models.untrained import write_untrained_models

from statewise.models import blas_threads
from statewise.service import Settings
from statewise.service.testing import running_server
from statewise.service.transport import make_event_loop

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell starts background processes with Ctrl-C ignored, and the tests' own processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONG_S = 600.0
"""A test marked as long may take this time, where `faulthandler_timeout` bounds the others."""
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)  # pytest redirects the descriptor itself while a test runs


def pytest_collection_finish() -> None:
    """Modules and collected tests live to the end: the garbage collector need not look at them again."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Servers in a test's own loop use the transport of the environment, as servers in processes do."""
    transport = Settings(repository=Path()).transport
    return {transport: partial(make_event_loop, transport)}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Replaces the timer that pytest has set for this test; pytest cancels either."""
    if item.get_closest_marker("long") and float(item.config.getini("faulthandler_timeout") or 0):
        faulthandler.dump_traceback_later(LONG_S, exit=True, file=item.config.stash[STDERR])


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """On a busy machine, threads that spin while they wait for each other make small products far slower."""
    with blas_threads(1):
        yield


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the small models: `steps` 1 and 2, `last`, `both`."""
    root = tmp_path_factory.mktemp("repository")
    write_small_models(root)
    return root


@pytest.fixture(scope="session")
def small_models(repository: Path) -> SmallModels:
    """The models of that repository, as oracles."""
    return SmallModels(repository)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of five models named after recipes: untrained, and in their shapes."""
    root = tmp_path_factory.mktemp("untrained")
    write_untrained_models(root)
    return root


@pytest.fixture
async def address(repository: Path) -> AsyncIterator[str]:
    """The address of a real server of the small models."""
    async with running_server(repository) as address:
        yield address


@pytest.fixture
async def caller(address: str) -> AsyncIterator[Caller]:
    """A caller connected to that server."""
    async with connect(address) as caller:
        yield caller


@pytest.fixture
def random() -> np.random.Generator:
    """Seeded."""
    return np.random.default_rng(7)
