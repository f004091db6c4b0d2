"""Loads one version: reads its folder, loads and tests its graphs, makes its arena and schedulers.

The registry decides which versions are loaded, and when they serve.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from statewise.service.base import ServiceError, shortened
from statewise.service.engine import Engine, EngineError, EngineProfile, TimeBudget, profile_engine
from statewise.service.packages import ServablePackage
from statewise.service.registry._auxiliary_graphs import AuxiliaryGraphs, MakeEngine, load_auxiliary_graphs
from statewise.service.registry._inspection import Inspection, VersionProfiles
from statewise.service.registry._loaded_model import LoadedModel
from statewise.service.registry._repository import VersionFolder
from statewise.service.scheduling import Scheduler
from statewise.service.session_state import StateArena
from statewise.wire import Reason

MakeScheduler = Callable[[Engine, StateArena, EngineProfile, ServablePackage], Scheduler]
ReadPackage = Callable[[str, int, Path], ServablePackage]

_PREAMBLE = re.compile(
    r"^\[ONNXRuntimeError\].*?(?:Status Message: (?:\S+:\d+ .*?\) )?|: [A-Z_]+ : )", re.DOTALL
)
"""What onnxruntime puts in front of what is wrong."""
_FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/:'\"]+/)+")
"""The folders of an absolute path in a text."""


class Inspector(Protocol):
    """Loads and tests versions where they can do no harm."""

    def inspect(self, folder: VersionFolder) -> Inspection:
        """Returns what the test found; may take minutes. Raises ServiceError (PACKAGE_INVALID)."""

    def rest(self) -> None:
        """Frees what no inspection under way needs."""

    def close(self) -> None:
        """Breaks inspections off and frees everything."""


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """A version that was read and tested, without room for sessions."""

    package: ServablePackage
    engine: Engine
    profile: EngineProfile
    auxiliary: AuxiliaryGraphs

    @property
    def profiles(self) -> VersionProfiles:
        """Profiles of all graphs."""
        generator, encoder = self.auxiliary.generator, self.auxiliary.encoder
        return VersionProfiles(
            self.profile,
            None if encoder is None else encoder.profile,
            None if generator is None else generator.profile,
        )


def load_graphs(
    package: ServablePackage,
    make_engine: MakeEngine,
    *,
    budget: TimeBudget,
    profiles: VersionProfiles | None = None,
) -> PreparedVersion:
    """Loads the graphs of a version, and tests them unless their profiles are known.

    Args:
        package: The version.
        make_engine: Loads a graph.
        budget: How long tests may take.
        profiles: Of an earlier test of the same files on this machine.

    Raises:
        ServiceError: PACKAGE_INVALID.
        EngineError: a graph cannot be loaded or run.
    """
    engine = make_engine(package.graph, package.spec, package.layout)
    if profiles is None:
        try:
            engine, profile = profile_engine(engine, sharing=package.sharing, budget=budget)
        except EngineError as error:
            if not _PREAMBLE.match(str(error)):
                raise
            raise ServiceError(Reason.PACKAGE_INVALID, _trial_failure(package, str(error))) from error
    else:
        profile = profiles.read
        engine = engine.with_minimum_rows(profile.minimum_rows)
    auxiliary = load_auxiliary_graphs(package, engine, make_engine, budget=budget, profiles=profiles)
    generator = auxiliary.generator
    if generator is not None and not generator.spec.graph:
        engine = generator.decode_loop.engine  # the loop runs the read graph: steps and loop share it
    return PreparedVersion(package, engine, profile, auxiliary)


def _trial_failure(package: ServablePackage, error: str) -> str:
    """Says that a graph cannot be run on made-up input, and what may help."""
    least = package.spec.least_steps
    text = (
        f"{package.name}/{package.version}/model.onnx: it cannot be run on made-up input of {least} time "
        f"step{'s' * (least > 1)} and more: {' '.join(_PREAMBLE.sub('', error).split())}"
    )
    per_step = any(entry.per_step for entry in package.spec.inputs)
    one_step = package.layout is not None and package.layout.one_step
    if per_step and not one_step:
        text += "; if it needs more steps, declare least_steps in its model.toml"
    return text


def failure_of(folder: VersionFolder, error: Exception) -> str:
    """Says why a version cannot be served, without the places of files on the server's disk.

    The first line is for callers. What a library said about it may follow in other lines, for the log.
    """
    said = str(error)
    if isinstance(error, ServiceError):
        text = error.message
    else:  # a foreign graph may make numpy or onnxruntime raise anything
        reason = " ".join(_PREAMBLE.sub("", said).split()) or type(error).__name__
        text = f"{folder.name}/{folder.version}: {reason}"
    cause = "" if error.__cause__ is None else str(error.__cause__)
    if cause not in said:
        text += f"\n{cause}"
    for path in (folder.path, folder.path.resolve()):
        text = text.replace(f"{path}/", "").replace(str(path), "its folder")
    # A name of a file need not be text that can be sent.
    return shortened(_FOLDERS.sub("", text).encode(errors="replace").decode())


class VersionLoader:
    """Loads versions. Both methods give a text instead, saying why, for a version that cannot be served.

    Args:
        read_package: Reads and checks a version folder.
        make_engine: Loads a graph.
        make_scheduler: Makes the scheduler of an engine.
        sessions: Sessions that each version's arena has room for.
        test_s: Seconds that the tests of a version may take.
        inspector: Tests versions first, elsewhere; None: they are tested here.
    """

    def __init__(
        self,
        *,
        read_package: ReadPackage,
        make_engine: MakeEngine,
        make_scheduler: MakeScheduler,
        sessions: int,
        test_s: float,
        inspector: Inspector | None,
    ) -> None:
        self._read_package = read_package
        self._make_engine = make_engine
        self._make_scheduler = make_scheduler
        self._sessions = sessions
        self._test_s = test_s
        self._inspector = inspector

    def prepare(self, folder: VersionFolder) -> PreparedVersion | str:
        """Reads, loads and tests a version; runs in any thread."""
        try:
            inspection = None if self._inspector is None else self._inspector.inspect(folder)
            package = self._read_package(folder.name, folder.version, folder.path)
            budget = TimeBudget(self._test_s)
            if inspection is None:
                return load_graphs(package, self._make_engine, budget=budget)
            if package.digest != inspection.digest:
                raise ServiceError(
                    Reason.PACKAGE_INVALID,
                    f"{folder.name}/{folder.version}: its files were changed while it was tested",
                )
            make_engine = partial(self._make_engine, optimisation=inspection.optimisation)
            return load_graphs(package, make_engine, budget=budget, profiles=inspection.profiles)
        except Exception as error:
            return failure_of(folder, error)

    def finish(self, prepared: PreparedVersion, number: int) -> LoadedModel | str:
        """Makes arena and schedulers, which belong to the event loop; `number` as in LoadedModel."""
        package, auxiliary = prepared.package, prepared.auxiliary
        try:
            arena = StateArena(prepared.engine.spec.state, self._sessions)
        except MemoryError as error:
            return f"{package.name}/{package.version}: the state of {self._sessions} sessions: {error}"
        scheduler = self._make_scheduler(prepared.engine, arena, prepared.profile, package)
        encoder, encoder_scheduler = auxiliary.encoder, None
        if encoder is not None:
            none = StateArena((), 0)
            encoder_scheduler = self._make_scheduler(encoder.engine, none, encoder.profile, package)
        return LoadedModel(number, package, prepared.profile, arena, scheduler, auxiliary, encoder_scheduler)

    def rest(self) -> None:
        """Frees what only the loading of versions needs."""
        if self._inspector is not None:
            self._inspector.rest()

    def close(self) -> None:
        """Breaks off what is being loaded."""
        if self._inspector is not None:
            self._inspector.close()
