"""Defines a model version in memory, and what listings show of any version. Values only."""

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from statewise.service.base import ModelKey, ServiceError
from statewise.service.engine import EngineProfile
from statewise.service.packages import ServablePackage
from statewise.service.registry._auxiliary_graphs import AuxiliaryGraphs, GeneratorGraph
from statewise.service.scheduling import Scheduler
from statewise.service.session_state import StateArena
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.telemetry import PrefixCounts
from statewise.wire import DTYPES, Reason


@dataclass(frozen=True)
class LoadedModel:
    """A version in memory.

    Attributes:
        number: Stands for the version in the session table; never reused.
        package: The version's folder, read and checked.
        profile: Result of the load-time test.
        arena: The states of the version's sessions.
        scheduler: Runs the read graph and the generator.
        auxiliary: The generator and the encoder.
        encoder_scheduler: Runs the encoder; None: the version has no encoder.
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

    @property
    def kept(self) -> KeptStates:
        """Current and earlier states of the version's sessions."""
        return self.scheduler.kept

    @property
    def queued_steps(self) -> int:
        """Time steps that wait or run, those of the encoder included."""
        encoder = self.encoder_scheduler
        return self.scheduler.queued_steps + (0 if encoder is None else encoder.queued_steps)

    @property
    def prefix_counts(self) -> PrefixCounts:
        """Counts of sequences that were looked up among known beginnings, those of the encoder included."""
        counts = self.scheduler.statistics.prefix
        encoder = self.encoder_scheduler
        return counts if encoder is None else counts + encoder.statistics.prefix

    @property
    def why_no_sessions(self) -> str:
        """Why no session can be opened; empty: sessions can be."""
        package = self.package
        if not package.spec.streamable:
            return "it keeps no state between calls"
        if not (self.profile.stepwise or package.stepwise):
            return (
                "its steps give other numbers than the whole sequence, as those of a graph that reads "
                "backwards; if steps are meant all the same, declare `stepwise = true` in its model.toml"
            )
        return ""

    @cached_property
    def output_sizes(self) -> tuple[int, int]:
        """Bytes of the outputs of a row, and of a time step."""
        sizes = [0, 0]
        for entry in self.package.spec.outputs:
            sizes[entry.per_step] += math.prod(entry.shape) * DTYPES[entry.dtype].itemsize
        return sizes[0], sizes[1]

    @property
    def state_bytes(self) -> int:
        """Bytes of one copy of a row's states."""
        return self.arena.bytes_per_session // 2

    def require_sessions(self) -> None:
        """Raises ServiceError (NOT_STREAMABLE) where no session can be opened."""
        why = self.why_no_sessions
        if why:
            raise ServiceError(
                Reason.NOT_STREAMABLE, f"model {self.package.name!r} offers Predict only: {why}"
            )

    def require_generator(self) -> GeneratorGraph:
        """Returns the generator. Without one raises ServiceError (WRONG_CALL), naming the right call."""
        if self.auxiliary.generator is None:
            right = "step a session" if self.auxiliary.encoder is not None else "use Predict"
            raise ServiceError(
                Reason.WRONG_CALL, f"model {self.package.name!r} does not generate: {right} instead"
            )
        return self.auxiliary.generator


class VersionState(Enum):
    """The states that a version passes through."""

    LOADING = "loading"
    """Being read and tested, or waiting for its turn."""
    READY = "ready"
    """Serves new work."""
    FAILED = "failed"
    """Cannot be loaded."""
    UNLOADING = "unloading"
    """Serves its open sessions only."""
    UNLOADED = "unloaded"
    """Unloaded by request: loaded again by request only."""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version in a listing.

    Attributes:
        name: Name of the model.
        version: Its version.
        state: Where the version stands.
        loaded: The version in memory; None: it is not in memory.
        trouble: Why the version could not be loaded, or what is wrong with its folder or with the model's
            model.toml; empty: nothing.
    """

    name: str
    version: int
    state: VersionState
    loaded: LoadedModel | None
    trouble: str = ""
