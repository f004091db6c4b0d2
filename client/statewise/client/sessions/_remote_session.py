"""Keeps what a client knows of one session on a server: its handle, position, journal and uncertain request.

`_recovery` gets a lost session back, `_session_retries` sends failed requests again. Invariant: `position`
counts the time steps that were applied and whose outputs arrived here.
"""

from collections.abc import Sequence
from typing import Any

from statewise.client.sessions._commands import SessionCommand
from statewise.client.sessions._journal import JournalProtocol, Payload
from statewise.client.stream import Operation, StepBatcher, StreamMultiplexer, exchange
from statewise.client.values import ModelInfo, Status, Subject, error_of, status_of_row
from statewise.v1 import sequence_pb2, tensor_pb2
from statewise.wire import Reason

NOT_HELD = (Reason.SESSION_NOT_FOUND, Reason.SESSION_EXPIRED)
"""Reasons of a server that does not have the session."""


class RemoteSession:
    """A session as this client knows it.

    Args:
        multiplexer: the connection to the server.
        batcher: collects the session's steps; names the model version that the session is pinned to.
        journal: keeps the session's inputs and generations.
        opened: the session as the server described it.
        opening: the request that opened the session, if it had a condition; None: the session began in the
            model's initial state.
    """

    __slots__ = (
        "batcher",
        "connection_number",
        "durable_position",
        "handle",
        "id",
        "journal",
        "last_payload",
        "multiplexer",
        "needs_replay",
        "opening",
        "position",
        "previous_position",
        "uncertain_request",
    )

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        journal: JournalProtocol,
        opened: sequence_pb2.Session,
        opening: sequence_pb2.OpenSessionsRequest | None = None,
    ) -> None:
        self.opening = opening
        self.multiplexer = multiplexer
        self.batcher = batcher
        self.journal = journal
        self.id = opened.session_id
        self.position: int = opened.position
        self.previous_position: int | None = None
        """Position before the last request, to which a rewind returns."""
        self.last_payload: Payload | None = None
        """Content of the last request, which a rewind would undo."""
        self.needs_replay = False
        """A recovery was interrupted: the server may lack inputs of the journal."""
        self.uncertain_request: SessionCommand | None = None
        """A request that may or may not have been applied."""
        self.durable_position: int
        self.handle: int
        self.connection_number: int
        """The last connection over which a server accepted the handle; over a later one it may be unknown."""
        self.adopt(opened)

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
        return self.needs_replay or self.uncertain_request is not None

    def applied(self, steps: int, payload: Payload, durable_position: int) -> None:
        """Notes that a request was applied."""
        self.previous_position, self.last_payload = self.position, payload
        self.position += steps
        self.connection_number = self.multiplexer.connection_number
        self.journal.append(steps, payload)
        if durable_position > self.durable_position:
            self.durable_position = durable_position
            self.journal.forget(durable_position)

    def rewound(self, position: int) -> None:
        """Notes that the last request was undone."""
        self.journal.rewind(position)
        self.position = position
        self.previous_position = self.last_payload = None

    def adopt(self, session: sequence_pb2.Session) -> None:
        """Takes the handle that the server gave when it opened or resumed the session."""
        self.handle = session.handle
        self.durable_position = session.durable_position
        self.connection_number = self.multiplexer.connection_number

    def exchange(self, name: str, request: Any) -> Operation[Any]:
        """Sends a request about this session that may be repeated; returns its reply."""
        return exchange(self.multiplexer, name, request, self.subject)

    def raise_row(self, errors: Sequence[tensor_pb2.RowError]) -> None:
        """Raises the failure of a request's only row, if it failed."""
        if errors:
            raise error_of(status_of_row(errors[0]), self.subject)

    def handle_unknown(self, status: Status) -> bool:
        """Returns whether a request failed because it reached a server that does not know the handle."""
        return status.reason in NOT_HELD and self.connection_number != self.multiplexer.connection_number

    def retryable(self, status: Status) -> bool:
        """Returns whether a step that failed with this status may succeed if it is sent again."""
        return status.lost or self.handle_unknown(status)
