"""Serves the model versions of a repository: finds one by name, loads new ones, unloads those that are gone.

Reading and testing a version is the loader's work. A version serves from the moment it has passed its test
until it is unloaded or its folder is gone; after that it serves its open sessions, and leaves memory with the
last one. A version that cannot be loaded never replaces one that serves.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from statewise.service.base import ModelKey, ServiceError, shortened
from statewise.service.packages import read_package
from statewise.service.registry._auxiliary_graphs import MakeEngine
from statewise.service.registry._loaded_model import LoadedModel, VersionState, VersionStatus
from statewise.service.registry._repository import RepositoryScan, VersionFolder, scan_repository
from statewise.service.registry._unloaded_versions import UnloadedVersions
from statewise.service.registry._version_loader import (
    Inspector,
    MakeScheduler,
    PreparedVersion,
    ReadPackage,
    VersionLoader,
    failure_of,
)
from statewise.service.registry._version_look_ups import VersionLookUps
from statewise.service.registry._version_records import VersionRecord
from statewise.wire import Reason

_log = logging.getLogger(__name__)


class ModelRegistry(VersionLookUps):
    """Versions by name and number.

    Args:
        root: Folder of models.
        make_engine: Loads a graph.
        make_scheduler: Makes the scheduler of an engine.
        sessions: Sessions that each version's arena has room for.
        test_s: Seconds that the measurements of a version may take.
        inspector: Tests versions first, where they can do no harm; None: they are tested here.
        side_by_side: Versions that are loaded at the same time, at most.
        read_package: Reads and checks a version folder.
        scan: Lists the repository's versions.
    """

    def __init__(
        self,
        root: Path,
        *,
        make_engine: MakeEngine,
        make_scheduler: MakeScheduler,
        sessions: int,
        test_s: float = math.inf,
        inspector: Inspector | None = None,
        side_by_side: int = 1,
        read_package: ReadPackage = read_package,
        scan: Callable[[Path], RepositoryScan] = scan_repository,
    ) -> None:
        super().__init__()
        self._root = root
        self._scan = scan
        self._loader = VersionLoader(
            read_package=read_package,
            make_engine=make_engine,
            make_scheduler=make_scheduler,
            sessions=sessions,
            test_s=test_s,
            inspector=inspector,
        )
        self._next_number = 0
        self._changing = asyncio.Lock()
        self._repository = RepositoryScan({}, {}, {})
        self._misnamed: frozenset[str] = frozenset()
        self._executor = ThreadPoolExecutor(side_by_side, thread_name_prefix="statewise-load")
        self._unloaded = UnloadedVersions(self._records, self._loader, self._executor, self._finish)
        self._loading: dict[ModelKey, asyncio.Task[None]] = {}
        self._starting = True
        self.changed: Callable[[], None] = lambda: None
        """Called after it has changed what serves, on the event loop."""

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(self._records.in_memory.values())

    def __getitem__(self, number: int) -> LoadedModel:
        return self._records.in_memory[number]

    @property
    def starting(self) -> bool:
        """Whether versions that are to serve by default are still being loaded for the first time."""
        return self._starting

    @property
    def serves_any(self) -> bool:
        """Whether any version serves new work, and the registry is not starting."""
        return not self._starting and self._records.serves_any()

    # --- loading and unloading ---

    def require_repository(self) -> None:
        """Raises ServiceError (PACKAGE_INVALID) where the repository is no folder."""
        if not self._root.is_dir():
            raise ServiceError(Reason.PACKAGE_INVALID, f"the repository {self._root} is not a folder")

    def begin(self) -> None:
        """Begins to load every version of the repository, defaults first; needs a running event loop.

        Until `wait_for_defaults` returns, the registry counts as serving nothing.

        Raises:
            ServiceError: PACKAGE_INVALID: the repository is no folder.
        """
        self.require_repository()
        self._repository = self._scan(self._root)
        self._begin_to_load(list(self._repository.versions.values()))
        self._choose_defaults()

    async def wait_for_defaults(self, limit_s: float) -> None:
        """Waits until every model has its default version, or has failed; at most that many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._records.awaits_default():
                    await asyncio.wait(self._loading.values(), return_when=asyncio.FIRST_COMPLETED)
        self._starting = False
        self.changed()

    async def wait_until_loaded(self) -> None:
        """Waits until no version is being loaded."""
        while self._loading:
            await asyncio.wait(self._loading.values())

    async def load_all(self) -> None:
        """Loads every version of the repository. One that cannot be loaded is logged and listed as failed.

        Raises:
            ServiceError: PACKAGE_INVALID: the repository is no folder.
        """
        self.begin()
        await self.wait_until_loaded()
        self._starting = False

    async def follow(self) -> None:
        """Begins to load new versions, unloads those that are gone, and chooses defaults again.

        A folder that was written to after it was loaded is reported and ignored; one that could not be loaded
        is loaded again once it has been written to.
        """
        async with self._changing:
            self._repository = repository = await asyncio.to_thread(self._scan, self._root)
            new = []
            for key, folder in repository.versions.items():
                record = self._records.get(key)
                if record is None or record.state is VersionState.UNLOADING:
                    new.append(folder)
                elif record.signature != folder.signature:
                    new += [folder] if record.state is VersionState.FAILED else []
                    self._report_changed_folder(key, record)
            self._begin_to_load(new)
            for key in self._records.known():
                if key not in repository.versions and key not in self._loading:
                    self._withdraw(key, VersionState.UNLOADING)
            self._choose_defaults()

    async def load(self, name: str, version: int = 0) -> LoadedModel:
        """Loads a version from the repository; one that serves already stays as it is. 0: the default one.

        The version is loaded to the end also when the caller no longer waits.

        Raises:
            ServiceError: MODEL_NOT_FOUND; PACKAGE_INVALID, with the reason.
        """
        async with self._changing:
            self._repository = repository = await asyncio.to_thread(self._scan, self._root)
            present = [number for model, number in repository.versions if model == name]
            key = (name, version or repository.declared.get(name, 0) or max(present, default=0))
            folder = repository.versions.get(key)
            if folder is None:
                listed = ", ".join(map(str, present)) or "none"
                raise ServiceError(
                    Reason.MODEL_NOT_FOUND,
                    f"the repository has no model {name!r} version {key[1]}; versions there: {listed}",
                )
            record = self._records.get(key)
            if key not in self._loading and (record is None or record.state is not VersionState.READY):
                self._begin_to_load([folder])
        if key in self._loading:
            await asyncio.wait([self._loading[key]])
        record = self._records.get(key)
        if record is not None and record.state is VersionState.FAILED:
            raise ServiceError(Reason.PACKAGE_INVALID, record.trouble)
        return self.find(*key)  # its folder may have gone meanwhile

    async def unload(self, name: str, version: int = 0) -> VersionStatus:
        """Offers a version to new work no longer; its sessions go on until they end. 0: the default one.

        Raises:
            ServiceError: MODEL_NOT_FOUND, MODEL_LOADING.
        """
        async with self._changing:
            self._repository = await asyncio.to_thread(self._scan, self._root)
            key = (name, version or self._records.default(name) or 0)
            record = self._records.get(key)
            if record is None or record.state is not VersionState.UNLOADED:
                self.find(*key)
                self._withdraw(key, VersionState.UNLOADED)
                self._choose_defaults()
            return next(status for status in self.statuses() if (status.name, status.version) == key)

    async def wake(self, name: str, version: int) -> LoadedModel:
        """Finds the version of a session that slept, and loads it where it was unloaded.

        Raises:
            ServiceError: as `look_up`; PACKAGE_INVALID.
        """
        if (name, version) not in self._records.newest():
            async with self._changing:
                await self._unloaded.load(self._repository.versions.get((name, version)))
        return self.look_up(name, version)

    async def close(self) -> None:
        """Breaks off the loading of versions. Returns when no thread loads any more."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        self._loader.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    def free_if_unused(self, loaded: LoadedModel) -> None:
        """Removes a version from memory if it serves no longer and has no session."""
        self._records.free_if_unused(loaded)

    def _begin_to_load(self, folders: list[VersionFolder]) -> None:
        """Begins to load versions side by side; those that would serve by default come first."""
        highest = dict(self._repository.versions.keys())  # the highest comes last
        defaults = {**highest, **self._repository.declared}
        folders.sort(key=lambda folder: defaults[folder.name] != folder.version)
        for folder in folders:
            self._records.begin_loading(folder.key)
            # Versions load in this order, because each task begins by handing its work to the executor.
            self._loading[folder.key] = asyncio.create_task(self._load(folder))

    async def _load(self, folder: VersionFolder) -> None:
        loop = asyncio.get_running_loop()
        try:
            prepared = await loop.run_in_executor(self._executor, self._loader.prepare, folder)
            self._commit(folder, prepared)
        except Exception as error:
            _log.error("loading %s/%d failed", *folder.key, exc_info=error)
            self._commit(folder, failure_of(folder, error))
        finally:
            del self._loading[folder.key]
            if not self._loading:
                self._loader.rest()
        self._choose_defaults()
        self.changed()

    def _commit(self, folder: VersionFolder, prepared: PreparedVersion | str) -> None:
        """Serves a prepared version, or records why it cannot be served."""
        finished = self._finish(prepared)
        if isinstance(finished, str):
            trouble = finished.partition("\n")[0]
            failed = VersionRecord(VersionState.FAILED, folder.signature, trouble=trouble)
            self._records.put(folder.key, failed)
            _log.error("%s/%d cannot be served: %s", *folder.key, " | ".join(finished.splitlines()))
            return
        self._records.put(folder.key, VersionRecord(VersionState.READY, folder.signature, finished))
        exactness = finished.profile.exactness.value
        _log.info("%s/%d serves: %s, digest %.12s", *folder.key, exactness, finished.package.digest)

    def _finish(self, prepared: PreparedVersion | str) -> LoadedModel | str:
        self._next_number += 1
        if isinstance(prepared, str):
            return prepared
        return self._records.with_files(prepared.package) or self._loader.finish(prepared, self._next_number)

    def _withdraw(self, key: ModelKey, state: VersionState) -> None:
        loaded = self._records.withdraw(key, state)
        if loaded is not None:
            _log.info("%s/%d is served to its open sessions only: %d", *key, loaded.arena.used_rows)

    def _report_changed_folder(self, key: ModelKey, record: VersionRecord) -> None:
        if record.state is VersionState.READY and not record.trouble:
            trouble = "its folder was changed after loading; publish a new version"
            self._records.put(key, replace(record, trouble=trouble))
            _log.error("%s/%d: %s", *key, trouble)

    def _choose_defaults(self) -> None:
        expected = "expected a name of 1 to 128 characters of A-Z a-z 0-9 . _ -"
        for name in sorted(self._repository.misnamed - self._misnamed):
            _log.error("the folder %s is no model: %s", shortened(ascii(name)), expected)
        self._misnamed = self._repository.misnamed
        for mistake in self._records.choose_defaults(self._repository):
            _log.error("%s; the highest version is served by default", mistake)
