"""Asks for models that are being loaded: calls wait, or say when to come back."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.helpers.models.small import SmallModels

from statewise.client import ModelNotFound, Unavailable
from statewise.service import Server, ServiceError
from statewise.service.packages import read_package
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.testing import server_in_thread
from statewise.wire import Reason

TOLD = "'steps' .*is being loaded and tested: try again in a moment"


class CountingRegistry(ModelRegistry):
    """Counts in `refused` the look-ups that raised MODEL_LOADING."""

    def __init__(self, *args: Any, refused: threading.Semaphore, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused = refused

    def find(self, name: str, version: int = 0) -> LoadedModel:
        with self._counted():
            return super().find(name, version)

    def find_digest(self, name: str, digest: str, preferred: int = 0) -> LoadedModel:
        with self._counted():
            return super().find_digest(name, digest, preferred)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            if error.reason is Reason.MODEL_LOADING:
                self._refused.release()
            raise


class LoadingServer:
    """A server that serves `last`, and has begun to load `steps`, whose loading waits for `go_on`."""

    def __init__(self, address: str, go_on: threading.Event, refused: threading.Semaphore) -> None:
        self.address = address
        self.go_on = go_on
        self.refused = refused
        """Released for each look-up that raised MODEL_LOADING."""


@pytest.fixture
def loading(repository: Path, tmp_path: Path) -> Iterator[LoadingServer]:
    reached, go_on, refused = threading.Event(), threading.Event(), threading.Semaphore(0)
    shutil.copytree(repository / "last", tmp_path / "last")

    def read(name: str, version: int, folder: Path) -> Any:
        if folder.parent == tmp_path / "steps":
            reached.set()
            assert go_on.wait(60)
        return read_package(name, version, folder)

    make_models = partial(CountingRegistry, refused=refused, read_package=read)
    with server_in_thread(
        tmp_path,
        make_server=partial(Server, make_models=make_models),
        repository_poll_s=0.01,
        snapshot_key="k" * 16,
    ) as address:
        shutil.copytree(repository / "steps", tmp_path / ".new")
        (tmp_path / ".new").rename(tmp_path / "steps")
        assert reached.wait(60)
        try:
            yield LoadingServer(address, go_on, refused)
        finally:
            go_on.set()


def test_the_hasty_are_told_to_come_back(loading: LoadingServer, clients: Clients) -> None:
    client, x = clients.connect(loading.address, reconnect_s=0), np.zeros((4, 3), np.float32)
    for ask in (
        lambda: client.predict("steps", x),
        lambda: client.predict("steps", x, version=2),
        lambda: client.session("steps").step(x),
        lambda: client.sessions("steps", count=2),
        lambda: list(client.score("steps", [x])),
    ):
        with pytest.raises(Unavailable, match=TOLD) as caught:
            ask()
        assert type(caught.value) is Unavailable
    for name, version in [("steps", 9), ("stairs", None)]:
        with pytest.raises(ModelNotFound):
            client.predict(name, x, version=version)
    assert client.predict("last", x).shape == (2,)
    listed = {(model.name, model.version): model.status for model in client.models()}
    assert listed == {("last", 1): "ready", ("steps", 1): "loading", ("steps", 2): "loading"}


@pytest.mark.parametrize("what", ["predict", "session", "sessions", "restore", "score"])
def test_the_patient_wait(
    loading: LoadingServer, clients: Clients, repository: Path, small_models: SmallModels, what: str
) -> None:
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    client = clients.connect(loading.address)
    token = b""
    if what == "restore":
        with server_in_thread(repository, snapshot_key="k" * 16) as elsewhere:
            token = clients.connect(elsewhere).session("steps").snapshot()
    ask = {
        "predict": lambda: client.predict("steps", x),
        "session": lambda: client.session("steps").step(x),
        "sessions": lambda: client.sessions("steps", count=1).step(x[None])[0],
        "restore": lambda: client.restore(token).step(x),
        "score": lambda: next(iter(client.score("steps", [x]))).outputs,
    }[what]
    with ThreadPoolExecutor(1) as pool:
        try:
            waiting = pool.submit(ask)
            for _ in range(5):  # more often than a call is repeated that reaches no server
                assert loading.refused.acquire(timeout=60)
        finally:
            loading.go_on.set()
        y = waiting.result()
    assert np.asarray(y).tobytes() == small_models.find("steps", 2).run(x)[0].tobytes()


def test_a_session_is_found_again_when_its_version_serves_nothing_else(
    clients: Clients, repository: Path, tmp_path: Path, small_models: SmallModels
) -> None:
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    shutil.copytree(repository / "steps", tmp_path / "steps")
    with server_in_thread(tmp_path, repository_poll_s=0.01) as address:
        first = clients.connect(address).session("steps", id="diary", version=1).step(x[:2])
        shutil.rmtree(tmp_path / "steps" / "1")
        newcomer = clients.connect(address)
        while [model.status for model in newcomer.models()] != ["unloading", "ready"]:
            pass
        session = newcomer.resume("diary")
        rest = session.step(x[2:])
        with pytest.raises(ModelNotFound, match="no version 1; served are: 2"):
            newcomer.predict("steps", x, version=1)
        session.close()
    assert np.concatenate([first, rest]).tobytes() == small_models.find("steps", 1).run(x)[0].tobytes()
