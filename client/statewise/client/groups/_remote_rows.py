"""Keeps what a client knows of a group's sessions on a server, in arrays with one entry a session.

Corresponds to `RemoteSession`, which serves single sessions. A row that needs a recovery becomes a
`RemoteSession` for as long as that takes.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.client.groups._group_journal import GroupJournal
from statewise.client.groups._group_request import GroupRequest
from statewise.client.groups._kept_positions import KeptPositions
from statewise.client.groups._row_origins import OriginSource, RowOrigins, origins_of, source_of
from statewise.client.requests import Beginnings
from statewise.client.sessions import OpenedSession, RemoteSession, SessionCommand, StateChange, StepCommand
from statewise.client.stream import StepBatcher, StreamMultiplexer
from statewise.v1 import sequence_pb2
from statewise.wire import unpack_uint64

T = TypeVar("T")


class RemoteRows:
    """The sessions of a group as this client knows them.

    Args:
        multiplexer: the connection.
        batcher: names the model version.
        journal: keeps what the sessions consume.
        opened: the sessions as the server described them.
        beginnings: what their states began from; None: the model's initial state.
    """

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        journal: GroupJournal,
        opened: Sequence[OpenedSession],
        beginnings: Beginnings | None,
    ) -> None:
        self._multiplexer = multiplexer
        self._batcher = batcher
        self.journal = journal
        sessions = [one.message for one in opened]
        self.ids = tuple(session.session_id for session in sessions)
        self.handles = np.array([session.handle for session in sessions], np.uint64)
        self.positions = np.array([session.position for session in sessions], np.uint64)
        self.durable_positions = np.array([session.durable_position for session in sessions], np.uint64)
        self._durabilities = [session.durability for session in sessions]
        self._births = np.array([session.birth for session in sessions], np.uint64)
        self._holders = np.array([one.holder for one in opened], np.uint64)
        self._earlier_openings: dict[int, tuple[tuple[int, int], ...]] = {}
        self._connection_numbers = np.array([one.connection_number for one in opened])
        self._uncertain_requests: dict[int, SessionCommand] = {}
        self._uncertain_changes: dict[int, StateChange] = {}
        self.uncertain_rewinds: dict[int, int] = {}
        """Positions to which rewinds may or may not have brought sessions, by row."""
        self._needs_replay: set[int] = set()
        self.kept = KeptPositions(sessions)
        known = np.array([one.is_new for one in opened], np.bool_)
        self._origins = RowOrigins(origins_of(beginnings), known)

    def changed(
        self,
        rows: NDArray[np.intp],
        sessions: Sequence[sequence_pb2.Session],
        source: OriginSource | None,
    ) -> None:
        """Notes that sessions have got other states, with which their journals begin anew."""
        self._moved(rows, sessions)
        self._origins.set(rows, source)
        self.journal.restart(rows, self.positions[rows])

    def begin_from(self, rows: NDArray[np.intp], source: OriginSource) -> None:
        """Notes what the states of sessions are, with which their journals begin anew."""
        self._origins.set(rows, source)
        self.journal.restart(rows, self.positions[rows])

    def rewound(self, rows: NDArray[np.intp], sessions: Sequence[sequence_pb2.Session]) -> None:
        """Notes that the last requests of sessions were undone."""
        self._moved(rows, sessions)
        self.journal.rewind(rows, self.positions[rows])

    def _moved(self, rows: NDArray[np.intp], sessions: Sequence[sequence_pb2.Session]) -> None:
        self.positions[rows] = [session.position for session in sessions]
        self.durable_positions[rows] = [session.durable_position for session in sessions]
        self._connection_numbers[rows] = self._multiplexer.answering
        for row, session in zip(rows.tolist(), sessions, strict=True):
            self.kept.set(row, unpack_uint64(session.kept_positions))

    def open_handles(self) -> list[int]:
        """Returns the handles of the sessions that were not closed."""
        handles: list[int] = self.handles[self.handles != 0].tolist()
        return handles

    def applied(
        self,
        request: GroupRequest,
        durable_positions: NDArray[np.uint64],
        connection_number: int | None = None,
    ) -> None:
        """Notes that a request was applied.

        Args:
            request: the request.
            durable_positions: of its rows, or empty.
            connection_number: of the reply's connection; None: the reply is being handed out.
        """
        self.kept.push(request.rows, self.positions[request.rows])
        self.positions[request.rows] += request.steps
        self._connection_numbers[request.rows] = (
            self._multiplexer.answering if connection_number is None else connection_number
        )
        self.journal.append(request.rows, request.steps, request.columns)
        if len(durable_positions):
            self.durable_positions[request.rows] = durable_positions
            self.journal.forget(self.durable_positions)

    def note_uncertain(self, request: GroupRequest) -> None:
        """Notes that a request may or may not have been applied."""
        payloads = request.payloads(self._batcher.model)
        for row, steps, payload in zip(request.rows.tolist(), request.steps.tolist(), payloads, strict=True):
            self._uncertain_requests[row] = StepCommand(self._batcher, steps, payload)

    @property
    def uncertain(self) -> bool:
        """Whether the server's position of any row is unknown."""
        return bool(self._uncertain_requests or self._uncertain_changes or self._needs_replay)

    def uncertain_among(self, rows: NDArray[np.intp]) -> list[int]:
        """Returns those of `rows` whose position on the server is unknown."""
        uncertain = {*self._uncertain_requests, *self._uncertain_changes, *self._needs_replay}
        return [row for row in rows.tolist() if row in uncertain]

    def resolved(self, row: int, remote: RemoteSession) -> None:
        """Notes that the server has a row at the position of `remote`."""
        self.take_back(row, remote)
        self.positions[row] = remote.position

    def session(self, row: int) -> RemoteSession:
        """Returns one row as a session of its own."""
        session = sequence_pb2.Session(
            session_id=self.ids[row],
            handle=int(self.handles[row]),
            birth=int(self._births[row]),
            position=int(self.positions[row]),
            durable_position=int(self.durable_positions[row]),
            durability=sequence_pb2.Durability.ValueType(self._durabilities[row]),
            keep=int(self.kept.keeps[row]),
            kept_positions=self.kept.packed(row),
        )
        origin = self._origins.of(row, self.ids[row])
        opened = OpenedSession(session, int(self._connection_numbers[row]), int(self._holders[row]))
        journal = self.journal.of(row)
        remote = RemoteSession(self._multiplexer, self._batcher, journal, opened, origin)
        remote.earlier_openings = self._earlier_openings.get(row, ())
        remote.uncertain_request = self._uncertain_requests.get(row)
        remote.uncertain_change = self._uncertain_changes.get(row)
        remote.uncertain_rewind = self.uncertain_rewinds.get(row)
        remote.needs_replay = row in self._needs_replay
        return remote

    def take_back(self, row: int, remote: RemoteSession) -> None:
        """Notes what became of a row while it was a session of its own."""
        self.handles[row] = remote.handle
        self._births[row] = remote.birth
        self._holders[row] = remote.holder
        if remote.earlier_openings:
            self._earlier_openings[row] = remote.earlier_openings
        self._connection_numbers[row] = remote.connection_number
        self.kept.keeps[row] = remote.keep
        self.kept.set(row, remote.kept_positions)
        if remote.origin != self._origins.of(row, self.ids[row]):
            self._origins.set(np.array([row]), None if remote.origin is None else source_of(remote.origin))
        _note(self.uncertain_rewinds, row, remote.uncertain_rewind)
        _note(self._uncertain_changes, row, remote.uncertain_change)
        _note(self._uncertain_requests, row, remote.uncertain_request)
        if remote.needs_replay:
            self._needs_replay.add(row)
        else:
            self._needs_replay.discard(row)


def _note(noted: dict[int, T], row: int, value: T | None) -> None:
    if value is None:
        noted.pop(row, None)
    else:
        noted[row] = value
