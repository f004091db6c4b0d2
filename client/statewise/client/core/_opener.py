"""Holds what opening a single session and opening a group have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from statewise.client.core._catalogue import Catalogue
from statewise.client.core._step_batchers import StepBatchers
from statewise.client.requests import ClientOptions, Operate, Plan
from statewise.client.sessions import ByteBudget, GroupCore, SessionCore
from statewise.client.stream import Gather, Operation, StreamMultiplexer, exchange
from statewise.client.values import Subject

FAREWELL_S = 2.0
"""For closing sessions that only this client could find."""


class AnonymousSessions:
    """Sessions whose ids no other client knows, and that are closed with this one."""

    def __init__(self) -> None:
        self._cores: WeakSet[SessionCore | GroupCore] = WeakSet()

    def add(self, core: SessionCore | GroupCore) -> None:
        """Has a session or group closed with the client."""
        self._cores.add(core)

    def forget(self, core: SessionCore | GroupCore) -> None:
        """Leaves a session or group open when the client is closed."""
        self._cores.discard(core)

    def farewell(self) -> Plan[None]:
        """Closes those that are still open."""
        yield Operate(_close_all([core for core in self._cores if not core.closed]), FAREWELL_S)


@dataclass(frozen=True, slots=True)
class Opener:
    """The parts of a client that a session is opened with."""

    multiplexer: StreamMultiplexer
    options: ClientOptions
    catalogue: Catalogue
    batchers: StepBatchers
    budget: ByteBudget
    anonymous: AnonymousSessions

    def exchange(
        self, name: str, request: Any, subject: Subject, timeout_s: float | None, *, alone: bool = False
    ) -> Plan[Any]:
        """Sends a request on the session stream; returns its reply. See `exchange`."""
        return (yield Operate(exchange(self.multiplexer, name, request, subject, alone=alone), timeout_s))


def _close_all(cores: Sequence[SessionCore | GroupCore]) -> Operation[None]:
    if cores:
        yield Gather([core.close() for core in cores])
