"""The model versions a server holds, and finding the right one.

Not the files (package) and not the work (scheduler): which versions are served, which one is meant when none
is named, and what became of those that could not be loaded.
"""

import logging
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from statewise.service.arena import StateArena
from statewise.service.engine import Engine, EngineError
from statewise.service.errors import ServiceError
from statewise.service.package import Package, read_package
from statewise.service.scheduler import Scheduler
from statewise.service.selftest import SelfTest, self_test
from statewise.wire import ModelSpec, Reason

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A version that serves.

    Attributes:
        number: Stands for the version in the session table; never reused.
        package: What the files say.
        test: What the load-time test found.
        arena: The state of its sessions.
        scheduler: Runs its work.
    """

    number: int
    package: Package
    test: SelfTest
    arena: StateArena
    scheduler: Scheduler


@dataclass(frozen=True)
class BrokenModel:
    """A version in the repository that does not serve, and why."""

    name: str
    version: int
    failure: str


class Models:
    """Versions by name and number.

    Args:
        repository: Folder of models.
        make_engine: Loads a graph.
        sessions: Sessions that each version's arena has room for.
        make_scheduler: Makes the scheduler of a version.
    """

    def __init__(
        self,
        repository: Path,
        *,
        make_engine: Callable[[Path, ModelSpec], Engine],
        sessions: int,
        make_scheduler: Callable[[Engine, StateArena, SelfTest], Scheduler],
    ) -> None:
        self._repository = repository
        self._make_engine = make_engine
        self._sessions = sessions
        self._make_scheduler = make_scheduler
        self._loaded: list[LoadedModel] = []
        self._versions: dict[str, dict[int, LoadedModel]] = {}
        self._defaults: dict[str, int] = {}
        self.broken: list[BrokenModel] = []

    def load_all(self) -> None:
        """Loads every version in the repository. One that cannot be loaded is reported and left out.

        Raises:
            ServiceError: PACKAGE_INVALID: the repository is no folder.
        """
        if not self._repository.is_dir():
            raise ServiceError(Reason.PACKAGE_INVALID, f"the repository {self._repository} is not a folder")
        for model_folder in sorted(_visible_folders(self._repository)):
            for version_folder in sorted(_visible_folders(model_folder), key=_version_of):
                version = _version_of(version_folder)
                if version:
                    self._load(model_folder.name, version, version_folder)
            self._choose_default(model_folder)

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(self._loaded)

    def __getitem__(self, number: int) -> LoadedModel:
        return self._loaded[number]

    def default_version(self, name: str) -> int | None:
        """The version served when none is named, or None for a model that is not served."""
        return self._defaults.get(name)

    def find(self, name: str, version: int = 0) -> LoadedModel:
        """The version asked for; 0: the default one.

        Raises:
            ServiceError: MODEL_NOT_FOUND, naming what is served.
        """
        versions = self._versions.get(name)
        if not versions:
            served = ", ".join(sorted(self._versions)) or "none"
            raise ServiceError(Reason.MODEL_NOT_FOUND, f"no model {name!r} is served; served are: {served}")
        loaded = versions.get(version or self._defaults[name])
        if loaded is None:
            served = ", ".join(str(number) for number in sorted(versions))
            raise ServiceError(
                Reason.MODEL_NOT_FOUND, f"model {name!r} has no version {version}; served are: {served}"
            )
        return loaded

    def find_digest(self, name: str, digest: str) -> LoadedModel:
        """The version of a model that has that digest.

        Raises:
            ServiceError: MODEL_NOT_FOUND; MODEL_CHANGED: the model is served, with other digests.
        """
        self.find(name)
        for loaded in self._versions[name].values():
            if loaded.package.digest == digest:
                return loaded
        raise ServiceError(
            Reason.MODEL_CHANGED, f"no served version of model {name!r} has the digest {digest[:12]}…"
        )

    def _load(self, name: str, version: int, folder: Path) -> None:
        try:
            package = read_package(name, version, folder)
            engine = self._make_engine(package.graph, package.spec)
            test = self_test(engine)
        except (ServiceError, EngineError) as error:
            _log.error("%s/%d cannot be served: %s", name, version, error)
            self.broken.append(BrokenModel(name, version, str(error)))
            return
        arena = StateArena(package.spec.state, self._sessions)
        scheduler = self._make_scheduler(engine, arena, test)
        loaded = LoadedModel(len(self._loaded), package, test, arena, scheduler)
        self._loaded.append(loaded)
        self._versions.setdefault(name, {})[version] = loaded
        _log.info("%s/%d serves: %s, digest %.12s", name, version, test.exactness.value, package.digest)

    def _choose_default(self, model_folder: Path) -> None:
        name = model_folder.name
        versions = self._versions.get(name)
        if not versions:
            return
        self._defaults[name] = max(versions)
        declaration = model_folder / "model.toml"
        if not declaration.is_file():
            return
        try:
            wanted = tomllib.loads(declaration.read_text()).get("default_version")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            _log.error("%s: %s; the highest version is served by default", declaration, error)
            return
        if wanted in versions:
            self._defaults[name] = wanted
        elif wanted is not None:
            _log.error("%s: default_version = %r is not served; the highest version is", declaration, wanted)


def _visible_folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _version_of(folder: Path) -> int:
    """The folder's version, or 0 where its name is none."""
    return int(folder.name) if folder.name.isascii() and folder.name.isdecimal() else 0
