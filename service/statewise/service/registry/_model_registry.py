"""The model versions a server holds: loading them, finding the right one, letting go of them.

Not the files (package, repository) and not the work (scheduler). A version serves from the moment it has
passed its test until it is unloaded or its folder is gone; then it keeps its sessions until the last one has
ended. What cannot be loaded never replaces what serves.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from statewise.service.base import ModelKey, ServiceError, shortened
from statewise.service.engine import Engine, EngineProfile, GraphLayout, profile_engine
from statewise.service.registry._auxiliary_graphs import (
    AuxiliaryGraphs,
    GeneratorGraph,
    load_auxiliary_graphs,
)
from statewise.service.registry._package import ServablePackage, read_package
from statewise.service.registry._repository import Scan, VersionFolder, scan
from statewise.service.scheduling import Scheduler
from statewise.service.session_state import StateArena
from statewise.wire import ModelSpec, Reason

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A version in memory.

    Attributes:
        number: Stands for the version in the session table; never reused.
        package: What the files say.
        profile: What the load-time test found.
        arena: The state of its sessions.
        scheduler: Runs its work.
        auxiliary: What generates, and the encoder.
        encoder_scheduler: Runs the encoder's work; None: there is no encoder.
    """

    number: int
    package: ServablePackage
    profile: EngineProfile
    arena: StateArena
    scheduler: Scheduler
    auxiliary: AuxiliaryGraphs
    encoder_scheduler: Scheduler | None

    @property
    def key(self) -> ModelKey:
        """Name and version."""
        return self.package.name, self.package.version

    def require_generator(self) -> GeneratorGraph:
        """How it generates. Raises ServiceError (WRONG_CALL), naming the right call, where it does not."""
        if self.auxiliary.generator is None:
            right = "step a session" if self.auxiliary.encoder is not None else "use Predict"
            raise ServiceError(
                Reason.WRONG_CALL, f"model {self.package.name!r} does not generate: {right} instead"
            )
        return self.auxiliary.generator


class VersionState(Enum):
    """Where a version stands."""

    LOADING = "loading"
    """Is read and tested, or next in line for it."""
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"
    """Serves its open sessions only."""
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version, for listings.

    Attributes:
        name: Of the model.
        version: Its version.
        status: Where it stands.
        loaded: What is in memory, or None.
        trouble: Why it could not be loaded, or what is odd about its folder; empty: nothing.
    """

    name: str
    version: int
    status: VersionState
    loaded: LoadedModel | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A version that was read and tested, and serves when it is admitted."""

    found: VersionFolder
    package: ServablePackage
    engine: Engine
    profile: EngineProfile
    auxiliary: AuxiliaryGraphs


class ModelRegistry:
    """Versions by name and number.

    Args:
        root: Folder of models.
        make_engine: Loads a graph.
        sessions: Sessions that each version's arena has room for.
        make_scheduler: Makes the scheduler of a version.
    """

    def __init__(
        self,
        root: Path,
        *,
        make_engine: Callable[[Path, ModelSpec, GraphLayout | None], Engine],
        sessions: int,
        make_scheduler: Callable[[Engine, StateArena, EngineProfile], Scheduler],
    ) -> None:
        self._root = root
        self._make_engine = make_engine
        self._sessions = sessions
        self._make_scheduler = make_scheduler
        self._numbers = 0
        self._in_memory: dict[int, LoadedModel] = {}
        self._served: dict[ModelKey, LoadedModel] = {}
        self._defaults: dict[str, int] = {}
        self._signatures: dict[ModelKey, object] = {}
        self._loading: set[ModelKey] = set()
        self._failures: dict[ModelKey, str] = {}
        self._oddities: dict[ModelKey, str] = {}
        self._mistakes: dict[str, str] = {}
        self._unwanted: set[ModelKey] = set()
        self._changing = asyncio.Lock()

    # --- finding ---

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(self._in_memory.values())

    def __getitem__(self, number: int) -> LoadedModel:
        return self._in_memory[number]

    @property
    def serves_any(self) -> bool:
        """Whether there is a version to send work to."""
        return bool(self._served)

    def default_version(self, name: str) -> int | None:
        """The version served when none is named, or None for a model that is not served."""
        return self._defaults.get(name)

    def find(self, name: str, version: int = 0) -> LoadedModel:
        """The version asked for; 0: the default one.

        Raises:
            ServiceError: MODEL_LOADING; MODEL_NOT_FOUND, naming what is served.
        """
        loaded = self._served.get((name, version or self._defaults.get(name, 0)))
        if loaded is not None:
            return loaded
        self._refuse_while_loading(name, version)
        if name not in self._defaults:
            served = ", ".join(sorted(self._defaults)) or "none"
            raise ServiceError(Reason.MODEL_NOT_FOUND, f"no model {name!r} is served; served are: {served}")
        served = ", ".join(str(number) for number in self._versions_of(name))
        raise ServiceError(
            Reason.MODEL_NOT_FOUND, f"model {name!r} has no version {version}; served are: {served}"
        )

    def look_up(self, name: str, version: int = 0) -> LoadedModel:
        """As `find`; a version named by number may also be one that serves its open sessions only."""
        key = (name, version)
        return self._served.get(key) or self._kept().get(key) or self.find(name, version)

    def find_digest(self, name: str, digest: str) -> LoadedModel:
        """The version of a model that has that digest.

        Raises:
            ServiceError: MODEL_NOT_FOUND; MODEL_CHANGED: the model is served, with other digests;
                MODEL_LOADING: a version of it is being loaded, whose digest is not known yet.
        """
        for version in self._versions_of(name):
            if self._served[name, version].package.digest == digest:
                return self._served[name, version]
        self._refuse_while_loading(name)
        self.find(name)
        raise ServiceError(
            Reason.MODEL_CHANGED, f"no served version of model {name!r} has the digest {digest[:12]}…"
        )

    def entries(self) -> list[VersionStatus]:
        """Every version known, by name and version; from any thread, hence the copies."""
        known = {
            key: VersionStatus(*key, VersionState.READY, loaded, self._trouble(key))
            for key, loaded in list(self._served.items())
        }
        kept = self._kept()
        for key in list(self._loading):
            known.setdefault(key, VersionStatus(*key, VersionState.LOADING, kept.get(key)))
        for key, trouble in list(self._failures.items()):
            known.setdefault(key, VersionStatus(*key, VersionState.FAILED, None, trouble))
        for key, loaded in kept.items():
            known.setdefault(key, VersionStatus(*key, VersionState.UNLOADING, loaded))
        for key in list(self._unwanted):
            known.setdefault(key, VersionStatus(*key, VersionState.UNLOADED, None))
        return [known[key] for key in sorted(known)]

    # --- loading and letting go ---

    def load_all(self) -> None:
        """Loads every version in the repository. One that cannot be loaded is reported and left out.

        Raises:
            ServiceError: PACKAGE_INVALID: the repository is no folder.
        """
        if not self._root.is_dir():
            raise ServiceError(Reason.PACKAGE_INVALID, f"the repository {self._root} is not a folder")
        seen = scan(self._root)
        for found in seen.versions.values():
            self._settle(found, self._prepare(found))
        self._choose_defaults(seen)

    async def follow(self) -> None:
        """Makes what is served what the repository holds now.

        New versions are loaded, those whose folder is gone are let go, defaults are read again. A folder that
        was written to after it was loaded is reported and ignored; one that could not be loaded is tried
        again when somebody has written to it.
        """
        async with self._changing:
            seen = await asyncio.to_thread(scan, self._root)
            new: list[VersionFolder] = []
            for key, found in seen.versions.items():
                changed = self._signatures.get(key) != found.signature
                if key in self._served:
                    if changed and key not in self._oddities:
                        self._oddities[key] = "its folder was changed after loading; publish a new version"
                        _log.error("%s/%d: %s", *key, self._oddities[key])
                elif key not in self._unwanted and changed:
                    new.append(found)
            with self._told_as_loading(new):
                for found in new:
                    self._settle(found, await asyncio.to_thread(self._prepare, found))
                for key in [key for key in self._served if key not in seen.versions]:
                    self._let_go(key)
                for key in [key for key in self._failures if key not in seen.versions]:
                    del self._failures[key], self._signatures[key]
                self._unwanted &= seen.versions.keys()
                self._choose_defaults(seen)

    async def load(self, name: str, version: int = 0) -> LoadedModel:
        """Loads a version from the repository; one that serves already stays as it is. 0: the default one.

        Raises:
            ServiceError: MODEL_NOT_FOUND; PACKAGE_INVALID, with the reason.
        """
        async with self._changing:
            seen = await asyncio.to_thread(scan, self._root)
            there = [number for model, number in seen.versions if model == name]
            version = version or seen.declared.get(name, 0) or max(there, default=0)
            found = seen.versions.get((name, version))
            if found is None:
                listed = ", ".join(str(number) for number in there) or "none"
                raise ServiceError(
                    Reason.MODEL_NOT_FOUND,
                    f"the repository has no model {name!r} version {version}; versions there: {listed}",
                )
            if (name, version) not in self._served:
                with self._told_as_loading([found]):
                    self._settle(found, await asyncio.to_thread(self._prepare, found))
                    self._unwanted.discard((name, version))
                    self._choose_defaults(seen)
            if (name, version) in self._failures:
                raise ServiceError(Reason.PACKAGE_INVALID, self._failures[name, version])
            return self._served[name, version]

    async def unload(self, name: str, version: int = 0) -> VersionStatus:
        """Offers a version to new work no longer; its sessions go on until they end. 0: the default one.

        Raises:
            ServiceError: MODEL_NOT_FOUND.
        """
        async with self._changing:
            seen = await asyncio.to_thread(scan, self._root)
            key = (name, version or self._defaults.get(name, 0))
            if key not in self._unwanted:
                self.find(*key)
                self._let_go(key)
                self._unwanted.add(key)
                self._choose_defaults(seen)
            return next(entry for entry in self.entries() if (entry.name, entry.version) == key)

    def forget_if_left(self, loaded: LoadedModel) -> None:
        """Frees a version that is no longer served and has no session."""
        if self._served.get(loaded.key) is not loaded and loaded.arena.used_rows == 0:
            self._in_memory.pop(loaded.number, None)

    @contextmanager
    def _told_as_loading(self, versions: Sequence[VersionFolder]) -> Iterator[None]:
        """Until it is settled what serves, and by default, whoever asks for these is told to come back."""
        self._loading.update((found.name, found.version) for found in versions)
        try:
            yield
        finally:
            self._loading.clear()

    def _refuse_while_loading(self, name: str, version: int = 0) -> None:
        """Raises ServiceError (MODEL_LOADING) where that version, or for 0 any, is being loaded."""
        if any(model == name and version in (0, number) for model, number in self._loading):
            which = f"model {name!r} version {version}" if version else f"model {name!r}"
            raise ServiceError(
                Reason.MODEL_LOADING, f"{which} is being loaded and tested: ask again in a moment"
            )

    def _prepare(self, found: VersionFolder) -> "_Prepared | str":
        """Reads, loads and tests a version, in any thread; or says why it cannot be served."""
        try:
            package = read_package(found.name, found.version, found.folder)
            engine = self._make_engine(package.graph, package.spec, package.layout)
            profile = profile_engine(engine, sharing=package.sharing)
            auxiliary = load_auxiliary_graphs(package, engine, self._make_engine)
            return _Prepared(found, package, engine, profile, auxiliary)
        except ServiceError as error:
            return shortened(error.message)
        except Exception as error:  # whatever a foreign graph does to numpy or onnxruntime
            return shortened(f"{found.name}/{found.version}: {str(error) or type(error).__name__}")

    def _settle(self, found: VersionFolder, prepared: "_Prepared | str") -> None:
        """Serves a prepared version, or notes why it is not served."""
        key = (found.name, found.version)
        self._signatures[key] = found.signature
        if not isinstance(prepared, str):
            try:
                arena = StateArena(prepared.engine.spec.state, self._sessions)
            except MemoryError as error:
                prepared = f"{found.name}/{found.version}: the state of {self._sessions} sessions: {error}"
        if isinstance(prepared, str):
            self._loading.discard(key)
            self._failures[key] = prepared
            _log.error("%s/%d cannot be served: %s", *key, prepared)
            return
        self._failures.pop(key, None)
        scheduler = self._make_scheduler(prepared.engine, arena, prepared.profile)
        encoder = prepared.auxiliary.encoder
        encoder_scheduler = None
        if encoder is not None:
            encoder_scheduler = self._make_scheduler(encoder.engine, StateArena((), 0), encoder.profile)
        loaded = LoadedModel(
            self._numbers,
            prepared.package,
            prepared.profile,
            arena,
            scheduler,
            prepared.auxiliary,
            encoder_scheduler,
        )
        self._numbers += 1
        self._in_memory[loaded.number] = self._served[key] = loaded
        exactness = prepared.profile.exactness.value
        _log.info("%s/%d serves: %s, digest %.12s", *key, exactness, prepared.package.digest)

    def _let_go(self, key: ModelKey) -> None:
        loaded = self._served.pop(key)
        del self._signatures[key]
        self._oddities.pop(key, None)
        self.forget_if_left(loaded)
        _log.info("%s/%d is served to its open sessions only: %d", *key, loaded.arena.used_rows)

    def _choose_defaults(self, seen: Scan) -> None:
        """The version that a model declares, where it serves; else the highest that serves."""
        self._defaults = {}
        mistakes = dict(seen.mistakes)
        for name in {name for name, _ in self._served}:
            wanted = seen.declared.get(name)
            if wanted is not None and (name, wanted) not in self._served:
                mistakes[name] = f"{name}/model.toml: default_version = {wanted} is not served"
                wanted = None
            self._defaults[name] = wanted or max(self._versions_of(name))
        for name, mistake in mistakes.items():
            if self._mistakes.get(name) != mistake:
                _log.error("%s; the highest version is served by default", mistake)
        self._mistakes = mistakes

    def _kept(self) -> dict[ModelKey, LoadedModel]:
        """What is in memory, the newest of each version: those that do not serve have sessions open."""
        return {loaded.key: loaded for loaded in list(self._in_memory.values())}

    def _trouble(self, key: ModelKey) -> str:
        """What is odd about a version that serves, or about its being the default one."""
        name, version = key
        mistake = self._mistakes.get(name) if self._defaults.get(name) == version else None
        return "; ".join(filter(None, (self._oddities.get(key), mistake)))

    def _versions_of(self, name: str) -> list[int]:
        return sorted(version for model, version in self._served if model == name)
