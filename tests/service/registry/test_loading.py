"""Looks versions up while they are loaded: they are not served yet, and not missing either."""

import asyncio
import shutil
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from tests.helpers.held import Held

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane import Dataplane
from statewise.service.packages import ServablePackage, read_package
from statewise.service.registry import ModelRegistry, VersionState, scan_repository
from statewise.service.registry._repository import RepositoryScan
from statewise.wire import Reason

T = TypeVar("T")


Reader = Held[[str, int, Path], ServablePackage]
Scanner = Held[[Path], RepositoryScan]


@pytest.fixture
def reader() -> Reader:
    return Held(read_package)


@pytest.fixture
def scanner() -> Scanner:
    return Held(scan_repository)


@pytest.fixture
def dataplane(repository: Path, tmp_path: Path, reader: Reader, scanner: Scanner) -> Iterator[Dataplane]:
    """Serves version 1 of `steps`, alone in its repository."""
    shutil.copytree(repository / "steps" / "1", tmp_path / "steps" / "1")
    make_models = partial(ModelRegistry, read_package=reader, scan=scanner)
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(
            Settings(repository=tmp_path, load_in_child=False), executor=executor, make_models=make_models
        )
        asyncio.run(dataplane.models.load_all())
        yield dataplane


@pytest.fixture
def served(dataplane: Dataplane) -> ModelRegistry:
    return dataplane.models


def reason(served: ModelRegistry, name: str, version: int = 0) -> Reason | None:
    """The reason that a look-up of a version fails; None if it succeeds."""
    try:
        served.find(name, version)
    except ServiceError as error:
        return error.reason
    return None


def statuses(served: ModelRegistry) -> dict[tuple[str, int], VersionState]:
    return {(status.name, status.version): status.state for status in served.statuses()}


async def reached(held: Reader | Scanner, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
    """Begins `work`; returns when it waits in the held function."""
    held.arm()
    task = asyncio.create_task(work)
    await asyncio.to_thread(held.reached.wait, 60)
    return task


async def test_what_a_look_at_the_repository_found_is_being_loaded_until_it_serves(
    served: ModelRegistry, repository: Path, tmp_path: Path, reader: Reader
) -> None:
    shutil.copytree(repository / "steps" / "2", tmp_path / "steps" / "2")
    shutil.copytree(repository / "last" / "1", tmp_path / "last" / "1")
    (tmp_path / "broken" / "1").mkdir(parents=True)
    following = await reached(reader, served.follow())
    try:
        # Versions that wait for their turn are loading, too.
        for asked in [("last", 0), ("last", 1), ("broken", 0), ("steps", 2)]:
            assert reason(served, *asked) is Reason.MODEL_LOADING, asked
        for asked in [("last", 2), ("steps", 3), ("nobody", 0)]:
            assert reason(served, *asked) is Reason.MODEL_NOT_FOUND, asked
        assert served.find("steps").package.version == served.find("steps", 1).package.version == 1
        assert statuses(served) == {
            ("broken", 1): VersionState.LOADING,
            ("last", 1): VersionState.LOADING,
            ("steps", 1): VersionState.READY,
            ("steps", 2): VersionState.LOADING,
        }
        with pytest.raises(
            ServiceError, match="'steps' version 2 is being loaded and tested: try again in a moment"
        ):
            served.find("steps", 2)
    finally:
        reader.go_on.set()
    await following
    await served.wait_until_loaded()
    for asked in [("last", 0), ("last", 1), ("steps", 0), ("steps", 2)]:
        assert reason(served, *asked) is None, asked
    for version in (0, 1):
        assert reason(served, "broken", version) is Reason.PACKAGE_INVALID
    assert reason(served, "broken", 2) is Reason.MODEL_NOT_FOUND
    assert statuses(served)["broken", 1] is VersionState.FAILED


async def test_what_is_loaded_by_request_is_being_loaded_too(
    served: ModelRegistry, repository: Path, tmp_path: Path, reader: Reader
) -> None:
    shutil.copytree(repository / "last" / "1", tmp_path / "last" / "1")
    loaded = await reached(reader, served.load("last"))
    assert reason(served, "last") is Reason.MODEL_LOADING
    reader.go_on.set()
    assert await loaded is served.find("last")
    # A version is loaded to the end also when the caller of `load` has left.
    await served.unload("last")
    loaded = await reached(reader, served.load("last"))
    loaded.cancel()
    await asyncio.gather(loaded, return_exceptions=True)
    assert reason(served, "last") is Reason.MODEL_LOADING
    reader.go_on.set()
    await served.wait_until_loaded()
    assert reason(served, "last") is None


async def test_one_that_keeps_sessions_can_be_looked_up_also_while_it_is_loaded_again(
    dataplane: Dataplane, served: ModelRegistry, reader: Reader
) -> None:
    kept = served.find("steps", 1)
    await dataplane.sessions.open("steps", 0, ["a"], owner="")
    await served.unload("steps")
    assert reason(served, "steps", 1) is Reason.MODEL_NOT_FOUND
    assert served.look_up("steps", 1) is kept
    loaded = await reached(reader, served.load("steps"))
    (status,) = served.statuses()
    assert (status.state, status.loaded) == (VersionState.LOADING, kept)
    assert reason(served, "steps", 1) is Reason.MODEL_LOADING
    assert served.look_up("steps", 1) is kept
    reader.go_on.set()
    assert await loaded is kept, "its files are the same"
    assert served.look_up("steps", 1) is kept


async def test_one_that_failed_and_was_mended_is_being_loaded_again(
    served: ModelRegistry, repository: Path, tmp_path: Path, reader: Reader
) -> None:
    (tmp_path / "last" / "1").mkdir(parents=True)
    await served.follow()
    await served.wait_until_loaded()
    assert statuses(served)["last", 1] is VersionState.FAILED
    shutil.copytree(repository / "last" / "1", tmp_path / "last" / "1", dirs_exist_ok=True)
    following = await reached(reader, served.follow())
    assert statuses(served)["last", 1] is VersionState.LOADING
    assert reason(served, "last", 1) is Reason.MODEL_LOADING
    reader.go_on.set()
    await following
    await served.wait_until_loaded()
    assert statuses(served)["last", 1] is VersionState.READY


async def test_a_snapshot_may_belong_to_the_version_that_is_being_loaded(
    served: ModelRegistry, repository: Path, tmp_path: Path, reader: Reader
) -> None:
    shutil.copytree(repository / "steps" / "2", tmp_path / "steps" / "2")
    with pytest.raises(ServiceError) as unknown:
        served.find_digest("steps", "of version 2")
    assert unknown.value.reason is Reason.MODEL_CHANGED
    present = served.find("steps").package.digest
    following = await reached(reader, served.follow())
    with pytest.raises(ServiceError) as not_yet:
        served.find_digest("steps", "of version 2")
    assert not_yet.value.reason is Reason.MODEL_LOADING
    assert served.find_digest("steps", present).package.version == 1
    reader.go_on.set()
    await following
    await served.wait_until_loaded()
    version_2 = served.find("steps", 2)
    assert served.find_digest("steps", version_2.package.digest) is version_2


async def test_while_the_default_version_is_unloaded_there_is_always_one(
    served: ModelRegistry, repository: Path, tmp_path: Path, scanner: Scanner
) -> None:
    shutil.copytree(repository / "steps" / "2", tmp_path / "steps" / "2")
    await served.follow()
    await served.wait_until_loaded()
    unloading = await reached(scanner, served.unload("steps", 2))
    assert reason(served, "steps") is None
    scanner.go_on.set()
    await unloading
    assert served.find("steps").package.version == 1
