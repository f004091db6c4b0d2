"""Keeps one record of every known version, and one of every model: states, defaults, mistakes.

Decides nothing about loading. Records are replaced, never changed, so other threads may read them.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from statewise.service.base import ModelKey
from statewise.service.packages import ServablePackage
from statewise.service.registry._loaded_model import LoadedModel, VersionState, VersionStatus
from statewise.service.registry._repository import FolderSignature, RepositoryScan


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version.

    Attributes:
        state: UNLOADING: the folder is gone, sessions are open. UNLOADED: unloaded by request; sessions may
            still be open.
        signature: With READY and FAILED: that of the folder when it was read.
        loaded: With READY: what serves.
        trouble: With FAILED: why; with READY: what is wrong with the folder; empty: nothing.
    """

    state: VersionState
    signature: FolderSignature = ()
    loaded: LoadedModel | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model: its versions share a model.toml.

    Attributes:
        default: The version that serves when none is named; None: no version serves.
        mistake: What is wrong with model.toml; empty: nothing.
    """

    default: int | None
    mistake: str


class VersionRecords:
    """Records by name and version.

    Attributes:
        in_memory: Loaded versions by their number in the session table, in the order of loading.
    """

    def __init__(self) -> None:
        self.in_memory: dict[int, LoadedModel] = {}
        self._kept: Counter[int] = Counter()
        self._versions: dict[ModelKey, VersionRecord] = {}
        self._models: dict[str, ModelRecord] = {}

    def get(self, key: ModelKey) -> VersionRecord | None:
        """Returns the record of a version."""
        return self._versions.get(key)

    def put(self, key: ModelKey, record: VersionRecord) -> None:
        """Replaces the record of a version."""
        self._versions[key] = record
        if record.loaded is not None:
            self.in_memory[record.loaded.number] = record.loaded

    def known(self) -> list[ModelKey]:
        """Returns every known version."""
        return list(self._versions)

    def begin_loading(self, key: ModelKey) -> None:
        """Records a version as loading, until it is put or withdrawn."""
        self._versions[key] = VersionRecord(VersionState.LOADING)

    def withdraw(self, key: ModelKey, state: VersionState) -> LoadedModel | None:
        """Ends a version's service, as UNLOADING or UNLOADED. Returns what served; None: nothing did."""
        loaded = self._versions[key].loaded
        self._versions[key] = VersionRecord(state)
        if loaded is not None:
            self.free_if_unused(loaded)
        self._drop_if_gone(key)
        return loaded

    def free_if_unused(self, loaded: LoadedModel) -> None:
        """Removes a version from memory if it does not serve, has no session, and nobody keeps it."""
        record = self._versions.get(loaded.key)
        if self._kept[loaded.number]:
            return
        if loaded.arena.used_rows == 0 and (record is None or record.loaded is not loaded):
            self.in_memory.pop(loaded.number, None)
            self._drop_if_gone(loaded.key)

    @contextmanager
    def keeping(self, loaded: LoadedModel) -> Iterator[None]:
        """Keeps a loaded version in memory for as long as the context lasts."""
        self._kept[loaded.number] += 1
        try:
            yield
        finally:
            self._kept[loaded.number] -= 1
            if not self._kept[loaded.number]:
                del self._kept[loaded.number]
                self.free_if_unused(loaded)

    def _drop_if_gone(self, key: ModelKey) -> None:
        """Drops the record of a version whose folder is gone and that is not in memory."""
        record = self._versions.get(key)
        if record is not None and record.state is VersionState.UNLOADING and key not in self.newest():
            del self._versions[key]

    def newest(self) -> dict[ModelKey, LoadedModel]:
        """Returns the last load of each version in memory, which serves or has open sessions."""
        return {loaded.key: loaded for loaded in list(self.in_memory.values())}

    def with_files(self, package: ServablePackage) -> LoadedModel | None:
        """Returns the version in memory that has the files of a package; None: there is none.

        It may have sessions from before it was withdrawn. If it serves again, they and new ones share frames.
        """
        loaded = self.newest().get((package.name, package.version))
        return loaded if loaded is not None and loaded.package.digest == package.digest else None

    def default(self, name: str) -> int | None:
        """Returns the version that serves when none is named; None: no version serves."""
        model = self._models.get(name)
        return None if model is None else model.default

    def served_models(self) -> list[str]:
        """Returns the names of the models that serve."""
        return sorted(name for name, model in self._models.items() if model.default is not None)

    def served_versions(self, name: str) -> list[int]:
        """Returns the versions of a model that serve."""
        return sorted(
            version
            for (model, version), record in self._versions.items()
            if model == name and record.loaded is not None
        )

    def serves_any(self) -> bool:
        """Returns whether any version serves."""
        return any(record.loaded is not None for record in list(self._versions.values()))

    def failed_version(self, name: str, version: int = 0) -> tuple[int, str] | None:
        """Returns that version, or for 0 the highest one, and why it could not be loaded; None: it could."""
        failed = [
            (number, record.trouble)
            for (model, number), record in self._versions.items()
            if model == name and version in (0, number) and record.state is VersionState.FAILED
        ]
        return max(failed, default=None)

    def is_loading(self, name: str, version: int = 0) -> bool:
        """Returns whether that version, or for 0 any of the model, is being loaded."""
        states = {
            record.state
            for (model, number), record in self._versions.items()
            if model == name and version in (0, number)
        }
        # A model has no default before its highest version is loaded, though a lower one may be ready.
        waits_for_default = VersionState.READY in states and self.default(name) is None
        return waits_for_default or VersionState.LOADING in states

    def awaits_default(self) -> bool:
        """Returns whether a model without a default version may get one: a version of it is loading."""
        return any(
            record.state is VersionState.LOADING and self.default(name) is None
            for (name, _), record in self._versions.items()
        )

    def choose_defaults(self, repository: RepositoryScan) -> list[str]:
        """Serves by default the version that model.toml names, or else the highest.

        While that version is being loaded the earlier default stays, or there is none.

        Returns:
            Mistakes in files model.toml that were not known before.
        """
        states: dict[str, dict[int, bool]] = {name: {} for name in repository.mistakes}
        for (name, version), record in self._versions.items():
            if record.loaded is not None or record.state is VersionState.LOADING:
                states.setdefault(name, {})[version] = record.loaded is not None
        models: dict[str, ModelRecord] = {}
        for name, serves in states.items():
            declared = repository.declared.get(name)
            mistake = repository.mistakes.get(name, "")
            if serves and declared is not None and declared not in serves:
                mistake = f"{name}/model.toml: default_version = {declared} is not served"
                declared = None
            wanted = declared or max(serves, default=None)
            if wanted is not None and not serves[wanted]:
                earlier = self.default(name)
                wanted = earlier if earlier is not None and serves.get(earlier) else None
            models[name] = ModelRecord(wanted, mistake)
        before, self._models = self._models, models
        return [
            model.mistake
            for name, model in models.items()
            if model.mistake and (name not in before or before[name].mistake != model.mistake)
        ]

    def statuses(self) -> list[VersionStatus]:
        """Returns every version, by name and number; from any thread, hence the copies."""
        newest = self.newest()
        listed = []
        for key, record in self._versions.copy().items():
            status = VersionStatus(*key, record.state, record.loaded, record.trouble)
            kept = newest.get(key)
            match record.state:
                case VersionState.READY:
                    status = replace(status, trouble=self._trouble(key, record))
                case VersionState.LOADING:
                    status = replace(status, loaded=kept)
                case VersionState.UNLOADING | VersionState.UNLOADED if kept is not None:
                    status = replace(status, state=VersionState.UNLOADING, loaded=kept)
                case VersionState.UNLOADING:
                    continue  # its last session ended after the record was read
                case _:
                    pass
            listed.append(status)
        return sorted(listed, key=lambda status: (status.name, status.version))

    def _trouble(self, key: ModelKey, record: VersionRecord) -> str:
        name, version = key
        model = self._models.get(name)
        mistake = model.mistake if model is not None and model.default == version else ""
        return "; ".join(filter(None, (record.trouble, mistake)))
