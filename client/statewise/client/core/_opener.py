"""Holds what opening a single session and opening a group have in common."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, finalize

from statewise.client.core._catalogue import Catalogue
from statewise.client.core._step_batchers import StepBatchers
from statewise.client.groups import GroupCore, RemoteRows
from statewise.client.requests import Beginnings, ClientOptions, OpenOptions, Operate, Plan
from statewise.client.sessions import (
    ByteBudget,
    OpenedSession,
    RemoteSession,
    SessionCore,
)
from statewise.client.stream import Gather, Operation, StreamMultiplexer, answered, exchange
from statewise.client.values import NotImplementedByServer, Subject
from statewise.v1 import sequence_pb2, tensor_pb2
from statewise.wire import pack_uint64, unpack_uint64

FAREWELL_S = 2.0
"""For closing sessions that only this client could find."""

_HANDLES_OF_A_REQUEST = 1000


class AnonymousSessions:
    """Sessions whose ids no other client knows, and that are closed with this one.

    A session that the program dropped without closing is collected; its handles are kept to close it.
    """

    def __init__(self) -> None:
        self._finalizers: WeakKeyDictionary[SessionCore | GroupCore, finalize[Any, Any]] = WeakKeyDictionary()
        self._dropped: list[int] = []

    def add(self, core: SessionCore | GroupCore) -> None:
        """Has a session or group closed with the client."""
        finalizer = self._finalizers[core] = finalize(core, self._drop, core.remote)
        finalizer.atexit = False

    def forget(self, core: SessionCore | GroupCore) -> None:
        """Leaves a session or group open when the client is closed."""
        finalizer = self._finalizers.pop(core, None)
        if finalizer is not None:
            finalizer.detach()

    def farewell(self, multiplexer: StreamMultiplexer) -> Plan[None]:
        """Closes those that are still open."""
        # Other threads may open sessions meanwhile; the list of references is made in one go.
        cores = [reference() for reference in self._finalizers.keyrefs()]
        operations = [core.close() for core in cores if core is not None and not core.closed]
        for begin in range(0, len(self._dropped), _HANDLES_OF_A_REQUEST):
            handles = pack_uint64(self._dropped[begin : begin + _HANDLES_OF_A_REQUEST])
            request = sequence_pb2.CloseSessionsRequest(handles=handles)
            operations.append(exchange(multiplexer, "close", request, Subject()))
        self._dropped.clear()
        yield Operate(_run_all(operations), FAREWELL_S)

    def _drop(self, remote: RemoteSession | RemoteRows) -> None:
        self._dropped += remote.open_handles()


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

    def _beginnings(
        self,
        name: str,
        version: int | None,
        options: OpenOptions,
        count: int | None,
        timeout_s: float | None,
    ) -> Plan[Beginnings | None]:
        """Reads what sessions are to begin from; None: the model's initial state."""
        if options.condition is None and options.state is None:
            return None
        model = yield from self.catalogue.current_model(name, version, timeout_s)
        if options.state is not None and model.state_bytes and not model.states:
            # The server may be a newer one by now, which describes them.
            model = yield from self.catalogue.model(name, version, timeout_s, fresh=True)
        return options.beginnings(model, count)

    def opening(
        self, name: str, request: Any, subject: Subject, timeout_s: float | None, *, alone: bool = False
    ) -> Plan[tuple[list[OpenedSession], Sequence[tensor_pb2.RowError]]]:
        """Sends a request that opens or resumes sessions; returns the sessions, and the failures of its rows.

        Every try carries the same births or holders, so that a try finds what an earlier one has opened.
        """
        numbers = secrets.token_bytes(8 * len(request.session_ids))
        if name == "resume":
            request.holders = numbers
        else:
            request.births = numbers
        operation = exchange(self.multiplexer, name, request, subject, alone=alone)
        reply, connection_number = yield Operate(answered(self.multiplexer, operation), timeout_s)
        failed = {error.row for error in reply.errors}
        holders = [number for row, number in enumerate(unpack_uint64(numbers).tolist()) if row not in failed]
        opened = [
            OpenedSession(session, connection_number, holder)
            for session, holder in zip(reply.sessions, holders, strict=True)
        ]
        return opened, reply.errors


def too_old() -> NotImplementedByServer:
    """Makes the error about a server that opened sessions otherwise than was asked, because it is older."""
    return NotImplementedByServer("the server is older than state= and keep=")


def _run_all(operations: Sequence[Operation[Any]]) -> Operation[None]:
    if operations:
        yield Gather(operations)
