"""A session's life on servers: its handle, its position, and getting it back when it is lost.

Not what callers do with it: see `SessionCore`. Invariant: `position` counts what was applied and delivered
here; after a recovery the server holds exactly that, or the inputs up to it are sent again, or SessionLost is
raised.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from statewise.client.sessions._commands import GenerateCommand, GenerateResult, SessionCommand
from statewise.client.sessions._journal import Entry, GeneratePayload, JournalProtocol, Payload
from statewise.client.stream import (
    Operation,
    StepBatcher,
    StepRow,
    StreamMultiplexer,
    exchange,
    pause_before_retry,
)
from statewise.client.values import (
    Failed,
    InputBytes,
    ModelInfo,
    SessionLost,
    Status,
    Subject,
    error_of,
    status_of_row,
)
from statewise.v1 import sequence_pb2, tensor_pb2
from statewise.wire import Reason, pack_uint64

_NOT_HERE = (Reason.SESSION_NOT_FOUND, Reason.SESSION_EXPIRED)


class RemoteSession:
    """A session as this client knows it.

    Args:
        multiplexer: the connection.
        batcher: where its steps gather; names the model version it is pinned to.
        journal: keeps what it consumes.
        opened: as the server gave it.
        opening: how it was opened, where its state did not begin at the model's initial one.
    """

    __slots__ = (
        "batcher",
        "connection_number",
        "durable_position",
        "handle",
        "id",
        "journal",
        "last",
        "multiplexer",
        "needs_replay",
        "opening",
        "position",
        "previous",
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
        self.previous: int | None = None
        """Position before the last request: where a rewind goes."""
        self.last: Payload | None = None
        """What the last request brought, which a rewind would undo."""
        self.needs_replay = False
        """A recovery was broken off: the server may not have consumed all that it should have."""
        self.uncertain_request: SessionCommand | None = None
        """A request whose outcome is open."""
        self.durable_position: int
        self.handle: int
        self.connection_number: int
        """The connection over which a server last knew the handle; over a later one it may be unknown."""
        self._adopt(opened)

    @property
    def model(self) -> ModelInfo:
        """The version it is pinned to."""
        return self.batcher.model

    @property
    def subject(self) -> Subject:
        """For errors."""
        return Subject(self.id, self.model.name, self.model.version)

    def applied(self, steps: int, payload: Payload, durable_position: int) -> None:
        """Notes that a request went through."""
        self.previous, self.last = self.position, payload
        self.position += steps
        self.connection_number = self.multiplexer.connection_number
        self.journal.append(steps, payload)
        if durable_position > self.durable_position:
            self.durable_position = durable_position
            self.journal.forget(durable_position)

    def exchange(self, name: str, request: Any) -> Operation[Any]:
        """A request about this session that may be repeated, and its reply."""
        return exchange(self.multiplexer, name, request, self.subject)

    def raise_row(self, errors: Sequence[tensor_pb2.RowError]) -> None:
        """Raises the failure of the only row, where it failed."""
        if errors:
            raise error_of(status_of_row(errors[0]), self.subject)

    def retryable(self, status: Status) -> bool:
        """Whether `retry_until_applied` may yet bring a failed step through."""
        stale = self.connection_number != self.multiplexer.connection_number
        return status.lost or (stale and status.reason in _NOT_HERE)

    def recover(self, ahead: SessionCommand | None = None) -> Operation[int]:
        """Gets a handle in force again: of the server's state where there is one, else of one built again.

        Args:
            ahead: a request whose reply was lost: the server may be further by it.

        Returns:
            The position held: `self.position`, or where `ahead` leads from there.

        Raises:
            SessionLost: no server has the state, and the inputs are no longer all held.
            StatewiseError: as of resume and open.
            Failed: of a replayed step.
        """
        self.needs_replay = True
        held = yield from self._recover(ahead)
        self.needs_replay = False
        return held

    def _recover(self, ahead: SessionCommand | None) -> Operation[int]:
        request = sequence_pb2.ResumeSessionsRequest(session_ids=[self.id])
        reply = yield from self.exchange("resume", request)
        if reply.errors and reply.errors[0].reason in _NOT_HERE:
            if not self._rebuildable:
                raise self._lost(reply.errors[0].message)
            return (yield from self._reopen())
        self.raise_row(reply.errors)
        return (yield from self._catch_up(reply.sessions[0], ahead))

    @property
    def _rebuildable(self) -> bool:
        """Whether everything that made the state is held here."""
        began = self.opening is not None or not self.model.encoder_inputs
        return began and self.journal.after(0) is not None

    def _reopen(self) -> Operation[int]:
        request = sequence_pb2.OpenSessionsRequest(
            model=self.model.name, version=self.model.version, session_ids=[self.id]
        )
        if self.opening is not None:
            request.CopyFrom(self.opening)
            request.session_ids[:] = [self.id]
        reply = yield from self.exchange("open", request)
        self.raise_row(reply.errors)
        opened = reply.sessions[0]
        if opened.digest != self.model.digest:
            changed = f"model {self.model.name!r} version {self.model.version} has other files than before"
            raise error_of(Status("FAILED_PRECONDITION", Reason.MODEL_CHANGED, changed), self.subject)
        return (yield from self._catch_up(opened, None))

    def _catch_up(self, session: sequence_pb2.Session, ahead: SessionCommand | None) -> Operation[int]:
        self._adopt(session)
        held: int = session.position
        if held > self.position:
            if ahead is not None and ahead.may_reach(held - self.position):
                return held
            message = f"expected position {self.position} as this client left it; the session is at {held}"
            status = Status("FAILED_PRECONDITION", Reason.POSITION_MISMATCH, message, position=held)
            raise error_of(status, self.subject)
        entries = self.journal.after(held)
        if entries is None:
            raise self._lost(f"the server has it at position {held} of {self.position}")
        for entry in merged(entries, self.batcher):
            yield from self._replay(entry, held)
            held += entry.steps
        return held

    def _replay(self, entry: Entry, position: int) -> Operation[None]:
        """Applies an entry of the journal again; what it gives was given already."""
        if not isinstance(entry.payload, GeneratePayload):
            yield StepRow(self.batcher, self.handle, position, entry.steps, entry.payload)
            return
        result: GenerateResult = yield GenerateCommand(entry.payload).effect(self.handle, position)
        if result.position != position + entry.steps:
            raise self._lost(
                f"it generated {entry.steps} time steps from position {position}, and now "
                f"{result.position - position}"
            )

    def retry_until_applied(
        self, status: Status, command: SessionCommand, *, maybe_applied: bool = False
    ) -> Operation[Any]:
        """A request that failed once: tried again while that can help, with the same result as if it had not.

        Args:
            status: how it failed.
            command: the request.
            maybe_applied: an earlier try may have been applied.

        Returns:
            The outcome of its effect.
        """
        policy = self.multiplexer.retry_policy()
        recovered = False
        while True:
            maybe_applied |= status.maybe_applied
            try:
                if (
                    status.reason in _NOT_HERE
                    and self.connection_number != self.multiplexer.connection_number
                ):
                    yield from self.recover(ahead=command if maybe_applied else None)
                    recovered = True
                elif status.reason == Reason.POSITION_MISMATCH and recovered and maybe_applied:
                    # It was applied, and the server kept no state from before it: build that again.
                    yield from self._start_over()
                    maybe_applied = False
                elif not (yield from pause_before_retry(self.multiplexer, policy, status)):
                    # Whoever took the session over knows where it stands; otherwise we have to ask.
                    if maybe_applied and status.reason != Reason.SESSION_MOVED:
                        self.uncertain_request = command
                    raise error_of(status, self.subject)
                if self.needs_replay:
                    yield from self.recover(ahead=command if maybe_applied else None)
                    recovered = True
                return (yield command.effect(self.handle, self.position))
            except Failed as failed:
                status = failed.status
            except GeneratorExit:
                # The caller left between two tries.
                if maybe_applied:
                    self.uncertain_request = command
                raise

    def _start_over(self) -> Operation[None]:
        if not self._rebuildable:
            raise self._lost(f"its state from before position {self.position} is gone")
        self.needs_replay = True
        yield from self.exchange(
            "close", sequence_pb2.CloseSessionsRequest(handles=pack_uint64([self.handle]))
        )
        yield from self._reopen()
        self.needs_replay = False

    @property
    def uncertain(self) -> bool:
        """Whether it is not known where the server stands."""
        return self.needs_replay or self.uncertain_request is not None

    def resolve_uncertainty(self) -> Operation[None]:
        """Finds out whether the uncertain request was applied, and brings the server to that position."""
        command = self.uncertain_request
        policy = self.multiplexer.retry_policy()
        while True:
            try:
                held = yield from self.recover(ahead=command)
                break
            except Failed as failed:
                if not (yield from pause_before_retry(self.multiplexer, policy, failed.status)):
                    raise error_of(failed.status, self.subject) from None
        self.uncertain_request = None
        if command is not None and held != self.position:
            self.applied(held - self.position, command.payload, self.durable_position)

    def _adopt(self, session: sequence_pb2.Session) -> None:
        self.handle = session.handle
        self.durable_position = session.durable_position
        self.connection_number = self.multiplexer.connection_number

    def _lost(self, detail: str) -> SessionLost:
        return SessionLost(f"{detail}; its inputs are not all held here any more", session_id=self.id)


def merged(entries: Sequence[Entry], batcher: StepBatcher) -> Iterator[Entry]:
    """What to send again: as few requests as fit, for models whose steps and sequences give the same bits.

    The last entry stays by itself: the server keeps the state from before it, as it did at first.
    """
    model = batcher.model
    if model.exactness != "exact" or not all(spec.per_step for spec in model.inputs):
        yield from entries
        return
    gathered: list[tuple[int, InputBytes]] = []
    steps = 0
    for entry in entries[:-1]:
        generated = isinstance(entry.payload, GeneratePayload)
        if gathered and (generated or steps + entry.steps > batcher.request_limits.row_steps):
            yield _joined(gathered)
            gathered, steps = [], 0
        if isinstance(entry.payload, GeneratePayload):
            yield entry
        else:
            gathered.append((entry.steps, entry.payload))
            steps += entry.steps
    if gathered:
        yield _joined(gathered)
    yield from entries[-1:]


def _joined(entries: Sequence[tuple[int, InputBytes]]) -> Entry:
    columns = zip(*(payload for _, payload in entries), strict=True)
    return Entry(sum(steps for steps, _ in entries), tuple(b"".join(column) for column in columns))
