"""Fixtures of the tests of the wire: servers in processes of their own, and a server that wants tokens."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.helpers.server_process import ServerProcesses
from tests.transport.owners.guarded import CallersFile, GuardedServer

from statewise.service import Scope, add_token
from statewise.service.testing import running_server


@pytest.fixture
def processes(repository: Path) -> Iterator[ServerProcesses]:
    """Starts servers of the small models, which end with the test."""
    with ExitStack() as running:
        yield ServerProcesses(repository, running)


@pytest.fixture
def callers(tmp_path: Path) -> CallersFile:
    """Ann and Bob may predict and keep sessions, the scorer may predict, root is admin."""
    path = tmp_path / "callers.toml"
    scopes = {
        "ann": [Scope.PREDICT, Scope.SESSION],
        "bob": [Scope.PREDICT, Scope.SESSION],
        "scorer": [Scope.PREDICT],
        "root": [Scope.ADMIN],
    }
    return CallersFile(path, {owner: add_token(path, owner, scopes) for owner, scopes in scopes.items()})


@pytest.fixture
async def guarded(repository: Path, callers: CallersFile) -> AsyncIterator[GuardedServer]:
    """A server that wants tokens."""
    async with running_server(repository, callers=callers.path, snapshot_key="k" * 16) as address:
        yield GuardedServer(address, callers)
