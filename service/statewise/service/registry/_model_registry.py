"""Serves the model versions of a repository: finds one by name, loads new ones, unloads those that are gone.

Reading and testing a version is the loader's work. A version serves from the moment it has passed its test
until it is unloaded or its folder is gone; after that it serves its open sessions, and leaves memory with the
last one. A version that cannot be loaded never replaces one that serves.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from statewise.service.base import ModelKey, ServiceError
from statewise.service.registry._auxiliary_graphs import MakeEngine
from statewise.service.registry._loaded_model import LoadedModel, VersionState, VersionStatus
from statewise.service.registry._package import read_package
from statewise.service.registry._repository import RepositoryScan, VersionFolder, scan_repository
from statewise.service.registry._version_loader import (
    MakeScheduler,
    PreparedVersion,
    ReadPackage,
    VersionLoader,
)
from statewise.service.registry._version_records import VersionRecord, VersionRecords
from statewise.wire import Reason

_log = logging.getLogger(__name__)


class ModelRegistry:
    """Versions by name and number.

    Args:
        root: Folder of models.
        make_engine: Loads a graph.
        make_scheduler: Makes the scheduler of an engine.
        sessions: Sessions that each version's arena has room for.
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
        read_package: ReadPackage = read_package,
        scan: Callable[[Path], RepositoryScan] = scan_repository,
    ) -> None:
        self._root = root
        self._scan = scan
        self._loader = VersionLoader(
            read_package=read_package,
            make_engine=make_engine,
            make_scheduler=make_scheduler,
            sessions=sessions,
        )
        self._records = VersionRecords()
        self._in_memory = self._records.in_memory
        self._next_number = 0
        self._changing = asyncio.Lock()

    # --- look-ups ---

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(self._in_memory.values())

    def __getitem__(self, number: int) -> LoadedModel:
        return self._in_memory[number]

    @property
    def serves_any(self) -> bool:
        """Whether any version serves new work."""
        return self._records.serves_any()

    def default_version(self, name: str) -> int | None:
        """Returns the version that serves when none is named; None: no version of the model serves."""
        return self._records.default(name)

    def find(self, name: str, version: int = 0) -> LoadedModel:
        """Returns the version that serves under that number; 0: the default one.

        Raises:
            ServiceError: MODEL_LOADING; MODEL_NOT_FOUND, naming what is served.
        """
        default = self._records.default(name)
        record = self._records.get((name, version or default or 0))
        if record is not None and record.loaded is not None:
            return record.loaded
        self._refuse_while_loading(name, version)
        if default is None:
            served = ", ".join(self._records.served_models()) or "none"
            raise ServiceError(Reason.MODEL_NOT_FOUND, f"no model {name!r} is served; served are: {served}")
        served = ", ".join(map(str, self._records.served_versions(name)))
        raise ServiceError(
            Reason.MODEL_NOT_FOUND, f"model {name!r} has no version {version}; served are: {served}"
        )

    def look_up(self, name: str, version: int = 0) -> LoadedModel:
        """Finds like `find`; a version named by number may also be one that serves its open sessions only."""
        key = (name, version)
        record = self._records.get(key)
        if record is not None and record.loaded is not None:
            return record.loaded
        return self._records.newest().get(key) or self.find(name, version)

    def find_digest(self, name: str, digest: str) -> LoadedModel:
        """Returns the version of a model that has that digest.

        Raises:
            ServiceError: MODEL_NOT_FOUND; MODEL_CHANGED: the model is served, with other digests;
                MODEL_LOADING: a version of it is being loaded, whose digest is not known yet.
        """
        for version in self._records.served_versions(name):
            loaded = self.find(name, version)
            if loaded.package.digest == digest:
                return loaded
        self._refuse_while_loading(name)
        self.find(name)
        raise ServiceError(
            Reason.MODEL_CHANGED, f"no served version of model {name!r} has the digest {digest[:12]}…"
        )

    def statuses(self) -> list[VersionStatus]:
        """Returns every known version, by name and number; may be called from any thread."""
        return self._records.statuses()

    def _refuse_while_loading(self, name: str, version: int = 0) -> None:
        """Raises ServiceError (MODEL_LOADING) while that version, or for 0 any of the model, is loaded."""
        if self._records.is_loading(name, version):
            which = f"model {name!r} version {version}" if version else f"model {name!r}"
            raise ServiceError(
                Reason.MODEL_LOADING, f"{which} is being loaded and tested: ask again in a moment"
            )

    # --- loading and unloading ---

    def load_all(self) -> None:
        """Loads every version in the repository. One that cannot be loaded is logged and listed as failed.

        Raises:
            ServiceError: PACKAGE_INVALID: the repository is no folder.
        """
        if not self._root.is_dir():
            raise ServiceError(Reason.PACKAGE_INVALID, f"the repository {self._root} is not a folder")
        repository = self._scan(self._root)
        for folder in repository.versions.values():
            self._commit(folder, self._loader.prepare(folder))
        self._choose_defaults(repository)

    async def follow(self) -> None:
        """Loads the repository's new versions, unloads those that are gone, and chooses defaults again.

        A folder that was written to after it was loaded is reported and ignored; one that could not be loaded
        is loaded again once it has been written to.
        """
        async with self._changing:
            repository = await asyncio.to_thread(self._scan, self._root)
            new = []
            for key, folder in repository.versions.items():
                record = self._records.get(key)
                if record is None or record.state is VersionState.UNLOADING:
                    new.append(folder)
                elif record.signature == folder.signature:
                    continue
                elif record.state is VersionState.FAILED:
                    new.append(folder)
                elif record.state is VersionState.READY:
                    self._report_changed_folder(key, record)
            with self._records.loading([folder.key for folder in new]):
                for folder in new:
                    self._commit(folder, await asyncio.to_thread(self._loader.prepare, folder))
                for key in self._records.known():
                    if key not in repository.versions:
                        self._withdraw(key, VersionState.UNLOADING)
                self._choose_defaults(repository)

    async def load(self, name: str, version: int = 0) -> LoadedModel:
        """Loads a version from the repository; one that serves already stays as it is. 0: the default one.

        Raises:
            ServiceError: MODEL_NOT_FOUND; PACKAGE_INVALID, with the reason.
        """
        async with self._changing:
            repository = await asyncio.to_thread(self._scan, self._root)
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
            if record is None or record.state is not VersionState.READY:
                with self._records.loading([key]):
                    self._commit(folder, await asyncio.to_thread(self._loader.prepare, folder))
                    self._choose_defaults(repository)
                record = self._records.get(key)
            assert record is not None, "a version that was loaded has a record"
            if record.loaded is None:
                raise ServiceError(Reason.PACKAGE_INVALID, record.trouble)
            return record.loaded

    async def unload(self, name: str, version: int = 0) -> VersionStatus:
        """Offers a version to new work no longer; its sessions go on until they end. 0: the default one.

        Raises:
            ServiceError: MODEL_NOT_FOUND.
        """
        async with self._changing:
            repository = await asyncio.to_thread(self._scan, self._root)
            key = (name, version or self._records.default(name) or 0)
            record = self._records.get(key)
            if record is None or record.state is not VersionState.UNLOADED:
                self.find(*key)
                self._withdraw(key, VersionState.UNLOADED)
                self._choose_defaults(repository)
            return next(status for status in self.statuses() if (status.name, status.version) == key)

    def free_if_unused(self, loaded: LoadedModel) -> None:
        """Removes a version from memory if it serves no longer and has no session."""
        self._records.free_if_unused(loaded)

    def _commit(self, folder: VersionFolder, prepared: PreparedVersion | str) -> None:
        """Serves a prepared version, or records why it cannot be served."""
        finished = prepared if isinstance(prepared, str) else self._loader.finish(prepared, self._next_number)
        if isinstance(finished, str):
            failed = VersionRecord(VersionState.FAILED, folder.signature, trouble=finished)
            self._records.put(folder.key, failed)
            _log.error("%s/%d cannot be served: %s", *folder.key, finished)
            return
        self._next_number += 1
        self._records.put(folder.key, VersionRecord(VersionState.READY, folder.signature, finished))
        exactness = finished.profile.exactness.value
        _log.info("%s/%d serves: %s, digest %.12s", *folder.key, exactness, finished.package.digest)

    def _withdraw(self, key: ModelKey, state: VersionState) -> None:
        loaded = self._records.withdraw(key, state)
        if loaded is not None:
            _log.info("%s/%d is served to its open sessions only: %d", *key, loaded.arena.used_rows)

    def _report_changed_folder(self, key: ModelKey, record: VersionRecord) -> None:
        if not record.trouble:
            trouble = "its folder was changed after loading; publish a new version"
            self._records.put(key, replace(record, trouble=trouble))
            _log.error("%s/%d: %s", *key, trouble)

    def _choose_defaults(self, repository: RepositoryScan) -> None:
        for mistake in self._records.choose_defaults(repository):
            _log.error("%s; the highest version is served by default", mistake)
