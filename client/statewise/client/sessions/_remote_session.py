"""Keeps what a client knows of one session on a server: its handle, position, journal and open request.

`_recovery` gets a lost session back, `_session_retries` sends failed requests again. Invariants: `position`
counts the time steps that were applied and whose outputs arrived here; while `uncertain`, no request but
those of `_recovery` is sent.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from statewise.client.sessions._commands import SessionCommand
from statewise.client.sessions._journal import JournalProtocol, Payload
from statewise.client.sessions._origin import Origin
from statewise.client.stream import Exchange, Operation, StepBatcher, StreamMultiplexer
from statewise.client.values import ModelInfo, Status, Subject, error_of, status_of_row
from statewise.v1 import sequence_pb2, tensor_pb2
from statewise.wire import Reason, unpack_uint64

NOT_HELD = (Reason.SESSION_NOT_FOUND, Reason.SESSION_EXPIRED)
"""Reasons of a server that does not have the session."""

# A server that still holds the session from an opening before so many losses is not expected.
_MOST_EARLIER_OPENINGS = 8


class StateChange(Protocol):
    """A request that replaces the state of a session. The client may send the request again."""

    def request(self, held: int) -> tuple[str, Any]:
        """Returns the name of the operation and its request, for a session at position `held`."""
        ...

    def origin(self, model: ModelInfo) -> Origin | None:
        """Returns the state that the session gets, where this client knows it."""
        ...


class OpenedSession(NamedTuple):
    """A session as a server opened it for this client."""

    message: sequence_pb2.Session
    connection_number: int
    """Of the connection over which the server described the session."""
    holder: int
    """Number by which the server knows this client as the session's holder."""

    @property
    def is_new(self) -> bool:
        """Whether the request that gave it, or an earlier try of it, has created it."""
        return self.message.created or self.message.birth == self.holder


class RemoteSession:
    """A session as this client knows it.

    Args:
        multiplexer: the connection to the server.
        batcher: collects the session's steps; names the model version that the session is pinned to.
        journal: keeps the session's inputs and generations.
        opened: the session as the server described it.
        origin: what the session's inputs began from; None: this client cannot open a session there.
    """

    __slots__ = (
        "batcher",
        "birth",
        "connection_number",
        "durability",
        "durable_position",
        "earlier_openings",
        "handle",
        "holder",
        "id",
        "journal",
        "keep",
        "kept_positions",
        "last_payload",
        "multiplexer",
        "needs_replay",
        "origin",
        "position",
        "rewinding",
        "uncertain_change",
        "uncertain_request",
        "uncertain_rewind",
    )

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        journal: JournalProtocol,
        opened: OpenedSession,
        origin: Origin | None = None,
    ) -> None:
        self.origin = origin
        self.multiplexer = multiplexer
        self.batcher = batcher
        self.journal = journal
        self.id = opened.message.session_id
        self.position: int = opened.message.position
        self.kept_positions: list[int] = []
        """Positions before the last requests, to which a rewind can return, the earliest first."""
        self.keep: int
        """The number of last requests that can be taken back; 0: the server is older than the number."""
        self.last_payload: Payload | None = None
        """Content of the last request, which a rewind would undo."""
        self.needs_replay = False
        """A recovery was interrupted: the server may lack inputs of the journal."""
        self.uncertain_request: SessionCommand | None = None
        """A request that may or may not have been applied."""
        self.uncertain_rewind: int | None = None
        """Position to which a rewind may or may not have brought the session."""
        self.uncertain_change: StateChange | None = None
        """A request that gives the session another state, which may or may not have been applied."""
        self.rewinding = False
        """Whether the session is to be rewound, so that an uncertain rewind is one that was meant."""
        self.birth: int
        """Distinguishes the session from others of its id."""
        self.holder = opened.holder
        self.earlier_openings: tuple[tuple[int, int], ...] = ()
        """Birth and holder of earlier openings that a server may still have, the latest last."""
        self.durable_position: int
        self.durability: int
        """When replies leave, a number of the contract, for another opening."""
        self.handle: int
        self.connection_number: int
        """The connection over which a server last accepted the handle; over another it may be unknown."""
        self.adopt(opened.message, opened.connection_number)
        self._adopt_kept(opened.message)

    @property
    def model(self) -> ModelInfo:
        """The version the session is pinned to."""
        return self.batcher.model

    @property
    def subject(self) -> Subject:
        """Names the session in errors."""
        return Subject(self.id, self.model.name, self.model.version)

    @property
    def uncertain(self) -> bool:
        """Whether the server's position is unknown."""
        return self.needs_replay or self.uncertain_request is not None or self.uncertain_change is not None

    def open_handles(self) -> list[int]:
        """Returns the handle, unless the session was closed."""
        return [self.handle] if self.handle else []

    def applied(self, steps: int, payload: Payload, durable_position: int) -> None:
        """Notes that a request was applied."""
        kept = self.kept_positions
        kept.append(self.position)
        if len(kept) > (self.keep or 1):
            del kept[0]
        self.last_payload = payload
        self.position += steps
        self.connection_number = self.multiplexer.answering
        self.journal.append(steps, payload)
        if durable_position > self.durable_position:
            self.durable_position = durable_position
            self.journal.forget(durable_position)

    def rewound(self, position: int) -> None:
        """Notes that the requests after a position were undone."""
        self.journal.rewind(position)
        self.position = position
        self.durable_position = min(self.durable_position, position)
        self.kept_positions = [kept for kept in self.kept_positions if kept < position]
        self.last_payload = self.uncertain_rewind = None

    def changed(self, session: sequence_pb2.Session, origin: Origin | None) -> None:
        """Notes that the session has got another state, with which its journal begins anew."""
        self.durable_position = session.durable_position
        self.connection_number = self.multiplexer.answering
        self._begin_from(session.position, origin)
        self._adopt_kept(session)

    def opened_anew(self, origin: Origin) -> None:
        """Notes that the session was opened anew in another state than it had."""
        self._begin_from(origin.position, origin)

    def _begin_from(self, position: int, origin: Origin | None) -> None:
        self.position = position
        self.origin = origin
        self.journal.restart(position)
        self.kept_positions = []
        self.last_payload = self.uncertain_rewind = self.uncertain_request = self.uncertain_change = None
        self.needs_replay = False

    def adopt(self, session: sequence_pb2.Session, connection_number: int) -> None:
        """Takes the handle that the server gave when it opened or resumed the session."""
        self.handle = session.handle
        self.birth = session.birth
        self.durable_position = session.durable_position
        self.durability = session.durability
        self.keep = session.keep
        self.connection_number = connection_number

    def _adopt_kept(self, session: sequence_pb2.Session) -> None:
        self.kept_positions = [int(kept) for kept in unpack_uint64(session.kept_positions)]

    def begin_anew(self, birth: int) -> None:
        """Notes that the session will be opened again: no server has it as this client left it."""
        self.earlier_openings = (*self.earlier_openings, (self.birth, self.holder))[-_MOST_EARLIER_OPENINGS:]
        self.birth = self.holder = birth
        self.handle = 0

    def send(self, name: str, request: Any) -> Operation[Any]:
        """Sends a request about this session once; returns its reply. Raises Failed."""
        return (yield Exchange(name, [request.SerializeToString()]))

    def raise_row(self, errors: Sequence[tensor_pb2.RowError]) -> None:
        """Raises the failure of a request's only row, if it failed."""
        if errors:
            raise error_of(status_of_row(errors[0]), self.subject)

    def handle_unknown(self, status: Status) -> bool:
        """Returns whether the request just answered reached a server that does not know the handle."""
        return status.reason in NOT_HELD and self.connection_number != self.multiplexer.answering

    def retryable(self, status: Status) -> bool:
        """Returns whether a step that failed with this status may succeed if it is sent again."""
        return status.lost or self.handle_unknown(status)
