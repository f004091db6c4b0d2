"""Loads one version: reads its folder, loads and tests its graphs, makes its arena and schedulers.

The registry decides which versions are loaded, and when they serve.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from statewise.service.base import ServiceError, shortened
from statewise.service.engine import Engine, EngineProfile, profile_engine
from statewise.service.registry._auxiliary_graphs import AuxiliaryGraphs, MakeEngine, load_auxiliary_graphs
from statewise.service.registry._loaded_model import LoadedModel
from statewise.service.registry._package import ServablePackage
from statewise.service.registry._repository import VersionFolder
from statewise.service.scheduling import Scheduler
from statewise.service.session_state import StateArena

MakeScheduler = Callable[[Engine, StateArena, EngineProfile], Scheduler]
ReadPackage = Callable[[str, int, Path], ServablePackage]


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """A version that was read and tested, without room for sessions."""

    package: ServablePackage
    engine: Engine
    profile: EngineProfile
    auxiliary: AuxiliaryGraphs


class VersionLoader:
    """Loads versions. Both methods give a text instead, saying why, for a version that cannot be served.

    Args:
        read_package: Reads and checks a version folder.
        make_engine: Loads a graph.
        make_scheduler: Makes the scheduler of an engine.
        sessions: Sessions that each version's arena has room for.
    """

    def __init__(
        self,
        *,
        read_package: ReadPackage,
        make_engine: MakeEngine,
        make_scheduler: MakeScheduler,
        sessions: int,
    ) -> None:
        self._read_package = read_package
        self._make_engine = make_engine
        self._make_scheduler = make_scheduler
        self._sessions = sessions

    def prepare(self, folder: VersionFolder) -> PreparedVersion | str:
        """Reads, loads and tests a version; runs in any thread."""
        try:
            package = self._read_package(folder.name, folder.version, folder.path)
            engine = self._make_engine(package.graph, package.spec, package.layout)
            engine, profile = profile_engine(engine, sharing=package.sharing)
            auxiliary = load_auxiliary_graphs(package, engine, self._make_engine)
            generator = auxiliary.generator
            if generator is not None and not generator.spec.graph:
                engine = generator.decode_loop.engine  # the loop runs the read graph: steps and loop share it
            return PreparedVersion(package, engine, profile, auxiliary)
        except ServiceError as error:
            return shortened(error.message)
        except Exception as error:  # a foreign graph may make numpy or onnxruntime raise anything
            return shortened(f"{folder.name}/{folder.version}: {str(error) or type(error).__name__}")

    def finish(self, prepared: PreparedVersion, number: int) -> LoadedModel | str:
        """Makes arena and schedulers, which belong to the event loop; `number` as in LoadedModel."""
        package, auxiliary = prepared.package, prepared.auxiliary
        try:
            arena = StateArena(prepared.engine.spec.state, self._sessions)
        except MemoryError as error:
            return f"{package.name}/{package.version}: the state of {self._sessions} sessions: {error}"
        scheduler = self._make_scheduler(prepared.engine, arena, prepared.profile)
        encoder, encoder_scheduler = auxiliary.encoder, None
        if encoder is not None:
            encoder_scheduler = self._make_scheduler(encoder.engine, StateArena((), 0), encoder.profile)
        return LoadedModel(number, package, prepared.profile, arena, scheduler, auxiliary, encoder_scheduler)
