"""Recovers a session that its server lost: resumes it, or opens it again and replays its journal.

After a recovery the server holds exactly what the client knows to be applied, or SessionLost is raised.
"""

from collections.abc import Iterator, Sequence

from statewise.client.sessions._commands import GenerateCommand, GenerateResult, SessionCommand
from statewise.client.sessions._journal import Entry, GeneratePayload
from statewise.client.sessions._remote_session import NOT_HELD, RemoteSession
from statewise.client.stream import Operation, StepBatcher, StepRow
from statewise.client.values import InputBytes, SessionLost, Status, error_of
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64


def recover(remote: RemoteSession, ahead: SessionCommand | None = None) -> Operation[int]:
    """Gets a valid handle again: for the state that a server has, or for a rebuilt one.

    Args:
        remote: the session.
        ahead: a request whose reply was lost: the server may be further by it.

    Returns:
        The server's position: `remote.position`, or where `ahead` leads from there.

    Raises:
        SessionLost: no server has the state, and the journal no longer holds all inputs.
        StatewiseError: as of resume and open.
        Failed: a replayed step failed.
    """
    remote.needs_replay = True
    held = yield from _resume(remote, ahead)
    remote.needs_replay = False
    return held


def start_over(remote: RemoteSession) -> Operation[None]:
    """Closes the session and builds it again up to `remote.position`.

    Raises:
        SessionLost: the journal no longer holds all inputs.
    """
    if not _rebuildable(remote):
        raise _lost(remote, f"its state from before position {remote.position} is gone")
    remote.needs_replay = True
    request = sequence_pb2.CloseSessionsRequest(handles=pack_uint64([remote.handle]))
    yield from remote.exchange("close", request)
    yield from _reopen(remote)
    remote.needs_replay = False


def _resume(remote: RemoteSession, ahead: SessionCommand | None) -> Operation[int]:
    request = sequence_pb2.ResumeSessionsRequest(session_ids=[remote.id])
    reply = yield from remote.exchange("resume", request)
    if reply.errors and reply.errors[0].reason in NOT_HELD:
        if not _rebuildable(remote):
            raise _lost(remote, reply.errors[0].message)
        return (yield from _reopen(remote))
    remote.raise_row(reply.errors)
    return (yield from _catch_up(remote, reply.sessions[0], ahead))


def _rebuildable(remote: RemoteSession) -> bool:
    """Returns whether this client holds everything that the state was made from."""
    began = remote.opening is not None or not remote.model.encoder_inputs
    return began and remote.journal.after(0) is not None


def _reopen(remote: RemoteSession) -> Operation[int]:
    model = remote.model
    request = sequence_pb2.OpenSessionsRequest(
        model=model.name, version=model.version, session_ids=[remote.id]
    )
    if remote.opening is not None:
        request.CopyFrom(remote.opening)
        request.session_ids[:] = [remote.id]
    reply = yield from remote.exchange("open", request)
    remote.raise_row(reply.errors)
    opened = reply.sessions[0]
    if opened.digest != model.digest:
        changed = f"model {model.name!r} version {model.version} has other files than before"
        raise error_of(Status("FAILED_PRECONDITION", Reason.MODEL_CHANGED, changed), remote.subject)
    return (yield from _catch_up(remote, opened, None))


def _catch_up(
    remote: RemoteSession, session: sequence_pb2.Session, ahead: SessionCommand | None
) -> Operation[int]:
    """Replays what a server's state lacks; returns the position reached."""
    remote.adopt(session)
    held: int = session.position
    if held > remote.position:
        if ahead is not None and ahead.may_reach(held - remote.position):
            return held
        message = f"expected position {remote.position} as this client left it; the session is at {held}"
        status = Status("FAILED_PRECONDITION", Reason.POSITION_MISMATCH, message, position=held)
        raise error_of(status, remote.subject)
    entries = remote.journal.after(held)
    if entries is None:
        raise _lost(remote, f"the server has it at position {held} of {remote.position}")
    for entry in _merged(entries, remote.batcher):
        yield from _replay(remote, entry, held)
        held += entry.steps
    return held


def _replay(remote: RemoteSession, entry: Entry, position: int) -> Operation[None]:
    """Applies a journal entry again. Its outputs are dropped: the caller has them."""
    if not isinstance(entry.payload, GeneratePayload):
        yield StepRow(remote.batcher, remote.handle, position, entry.steps, entry.payload)
        return
    result: GenerateResult = yield GenerateCommand(entry.payload).effect(remote.handle, position)
    if result.position != position + entry.steps:
        raise _lost(
            remote,
            f"it generated {entry.steps} time steps from position {position}, and now "
            f"{result.position - position}",
        )


def _lost(remote: RemoteSession, detail: str) -> SessionLost:
    return SessionLost(f"{detail}; its inputs are not all held here any more", session_id=remote.id)


def _merged(entries: Sequence[Entry], batcher: StepBatcher) -> Iterator[Entry]:
    """Yields journal entries, joined to as few requests as fit if the model gives the same bits for both.

    The last entry is never joined: the server keeps the state before the last request, as it did at first.
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
