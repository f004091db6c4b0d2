"""Fixtures of the container tests: engine, images and project. Tests skip where no engine can run."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.docker.engine import Engine, NoEngineError, running_engine
from tests.docker.images import stand_in
from tests.docker.stack import REPLICAS, Stack


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine with stand-ins for the images that Compose would pull."""
    with tempfile.TemporaryDirectory(prefix="statewise-") as folder, ExitStack() as running:
        try:
            engine = running.enter_context(running_engine(Path(folder) / "engine"))
        except NoEngineError as error:
            pytest.skip(f"no Docker engine can run here: {error}")
        stand_in(engine)
        yield engine


@pytest.fixture(scope="session")
def stack(engine: Engine) -> Iterator[Stack]:
    """The project with its image built and no container running."""
    stack = Stack(engine)
    stack.compose("build")
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def everything(stack: Stack) -> Iterator[Stack]:
    """The project with all services healthy: three replicas, HAProxy, Prometheus, Grafana's stand-in."""
    stack.up("balanced", "monitoring", servers=REPLICAS)
    yield stack
    stack.down()
