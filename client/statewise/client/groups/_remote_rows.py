"""Keeps what a client knows of a group's sessions on a server, in arrays with one entry a session.

Corresponds to `RemoteSession`, which serves single sessions. A row that needs a recovery becomes a
`RemoteSession` for as long as that takes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.client.groups._group_journal import GroupJournal
from statewise.client.groups._group_request import GroupRequest
from statewise.client.requests import Conditions
from statewise.client.sessions import OpenedSession, RemoteSession, SessionCommand, StepCommand
from statewise.client.stream import StepBatcher, StreamMultiplexer
from statewise.v1 import sequence_pb2


class RemoteRows:
    """The sessions of a group as this client knows them.

    Args:
        multiplexer: the connection.
        batcher: names the model version.
        journal: keeps what the sessions consume.
        opened: the sessions as the server described them.
        conditions: what their states began from; None: the model's initial state.
    """

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        batcher: StepBatcher,
        journal: GroupJournal,
        opened: Sequence[OpenedSession],
        conditions: Conditions | None,
    ) -> None:
        self._multiplexer = multiplexer
        self._batcher = batcher
        self._conditions = conditions
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
        self._needs_replay: set[int] = set()

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
        return bool(self._uncertain_requests or self._needs_replay)

    def uncertain_among(self, rows: NDArray[np.intp]) -> list[int]:
        """Returns those of `rows` whose position on the server is unknown."""
        return [row for row in rows.tolist() if row in self._uncertain_requests or row in self._needs_replay]

    def resolved(self, row: int, remote: RemoteSession) -> None:
        """Notes that the server has a row at the position of `remote`."""
        self._uncertain_requests.pop(row, None)
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
        )
        opening = None if self._conditions is None else self._conditions.request([self.ids[row]], row)
        opened = OpenedSession(session, int(self._connection_numbers[row]), int(self._holders[row]))
        journal = self.journal.of(row)
        remote = RemoteSession(self._multiplexer, self._batcher, journal, opened, opening)
        remote.earlier_openings = self._earlier_openings.get(row, ())
        remote.uncertain_request = self._uncertain_requests.get(row)
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
        if remote.uncertain_request is not None:
            self._uncertain_requests[row] = remote.uncertain_request
        if remote.needs_replay:
            self._needs_replay.add(row)
        else:
            self._needs_replay.discard(row)
