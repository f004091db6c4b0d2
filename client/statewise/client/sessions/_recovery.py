"""Recovers a session that its server lost: resumes it, or opens it again and replays its journal.

After a recovery the server holds exactly what the client knows to be applied, or an error is raised. The
birth says whether a server has this session or another one of its id; a state of another birth is never used.
A server may still hold the session from an earlier opening by this client; that one is closed, because it may
have consumed other inputs than the session has since.
"""

import secrets
from collections.abc import Iterator, Sequence

from statewise.client.sessions._commands import GenerateCommand, GenerateResult, SessionCommand
from statewise.client.sessions._journal import Entry, GeneratePayload
from statewise.client.sessions._origin import Origin
from statewise.client.sessions._remote_session import NOT_HELD, RemoteSession
from statewise.client.stream import Operation, StepBatcher, StepRow
from statewise.client.values import Failed, InputBytes, SessionLost, Status, error_of
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64


def new_birth() -> int:
    """Draws a number that tells a session from others of its id."""
    return secrets.randbits(64) or 1


def recover(remote: RemoteSession, ahead: SessionCommand | None = None) -> Operation[int]:
    """Gets a valid handle again: for the state that a server has, or for a rebuilt one.

    Args:
        remote: the session.
        ahead: a request whose reply was lost: the server may be further by it.

    Returns:
        The server's position: `remote.position`, or where `ahead` leads from there.

    Raises:
        SessionLost: no server has the state, and the journal no longer holds all inputs.
        SessionMoved: another program has opened a session of that id, or has resumed this one.
        PositionMismatch: a rewind that raised was applied; the session is where it led, from now on.
        StatewiseError: as of resume and open.
        Failed: a request failed; the recovery may be tried again.
    """
    remote.needs_replay = True
    while True:
        try:
            held = yield from _find_or_reopen(remote, ahead)
            break
        except Failed as failed:
            # Another server answers than the one that gave the handle a moment ago.
            if not remote.handle_unknown(failed.status):
                raise
    remote.needs_replay = False
    remote.uncertain_rewind = None
    return held


def start_over(remote: RemoteSession, position: int) -> Operation[None]:
    """Closes the session and builds it again at `position`, its present one or the one before.

    Raises:
        SessionLost: the journal no longer holds all inputs.
        Failed: a request failed; `recover` goes on from there.
    """
    if not rebuildable(remote):
        raise _lost(remote, f"its state from before position {remote.position} is gone")
    remote.needs_replay = True
    yield from _close(remote, remote.handle)
    if position < remote.position:
        remote.rewound(position)
    yield from recover(remote)


def _find_or_reopen(remote: RemoteSession, ahead: SessionCommand | None) -> Operation[int]:
    while True:
        session = yield from find(remote)
        if session is not None:
            return (yield from _catch_up(remote, session.position, ahead))
        if remote.origin is None or not rebuildable(remote):
            raise _lost(remote, "no server has it any more")
        if (yield from reopen(remote, remote.origin)):
            return (yield from _catch_up(remote, remote.origin.position, None))


def find(remote: RemoteSession) -> Operation[sequence_pb2.Session | None]:
    """Takes this session over where a server has it, at any position; None: no server has it.

    Raises:
        SessionMoved: another program has opened a session of that id, or has resumed this one.
        Failed: the request failed.
    """
    while True:
        reply = yield from _try_to_resume(remote, remote.birth, remote.holder)
        answering = remote.multiplexer.answering
        if reply.sessions:
            session: sequence_pb2.Session = reply.sessions[0]
            remote.adopt(session, answering)
            return session
        error = reply.errors[0]
        if error.reason in NOT_HELD:
            return None
        if error.reason == Reason.SESSION_MOVED and (yield from _close_earlier_opening(remote)):
            return None
        if remote.multiplexer.answering == answering:
            remote.raise_row([error])
        # Two servers answered: what the first one holds says nothing about the second.


def _try_to_resume(
    remote: RemoteSession, birth: int, holder: int
) -> Operation[sequence_pb2.ResumeSessionsResponse]:
    request = sequence_pb2.ResumeSessionsRequest(
        session_ids=[remote.id], births=pack_uint64([birth]), holders=pack_uint64([holder])
    )
    reply: sequence_pb2.ResumeSessionsResponse = yield from remote.send("resume", request)
    return reply


def _close_earlier_opening(remote: RemoteSession) -> Operation[bool]:
    """Closes the session of this id if an earlier opening by this client made it; returns whether it did."""
    for birth, holder in reversed(remote.earlier_openings):
        reply = yield from _try_to_resume(remote, birth, holder)
        if reply.sessions:
            yield from _close(remote, reply.sessions[0].handle)
            return True
    return False


def _close(remote: RemoteSession, handle: int) -> Operation[None]:
    yield from remote.send("close", sequence_pb2.CloseSessionsRequest(handles=pack_uint64([handle])))


def rebuildable(remote: RemoteSession) -> bool:
    """Returns whether this client holds everything that the state was made from."""
    return remote.origin is not None and remote.journal.after(remote.origin.position) is not None


def reopen(remote: RemoteSession, origin: Origin) -> Operation[bool]:
    """Opens the session anew, in another one's place. False: the server has another session of that id."""
    model = remote.model
    if remote.handle:  # else an opening got no answer, and what it opened is as good as new
        remote.begin_anew(new_birth())
    request = sequence_pb2.OpenSessionsRequest(model=model.name, version=model.version)
    if origin.opening is not None:
        request.CopyFrom(origin.opening)
    request.session_ids[:] = [remote.id]
    request.births = pack_uint64([remote.birth])
    request.only_new = True
    request.durability = sequence_pb2.Durability.ValueType(remote.durability)
    request.keep = remote.keep
    reply = yield from remote.send("open", request)
    if reply.errors and reply.errors[0].reason == Reason.SESSION_EXISTS:
        return False
    remote.raise_row(reply.errors)
    opened = reply.sessions[0]
    if opened.digest != model.digest:
        changed = f"model {model.name!r} version {model.version} has other files than before"
        raise error_of(Status("FAILED_PRECONDITION", Reason.MODEL_CHANGED, changed), remote.subject)
    remote.adopt(opened, remote.multiplexer.answering)
    return True


def _catch_up(remote: RemoteSession, held: int, ahead: SessionCommand | None) -> Operation[int]:
    """Replays what a server's state at position `held` lacks; returns the position reached."""
    if held > remote.position:
        if ahead is not None and ahead.may_reach(held - remote.position):
            return held
        message = f"expected position {remote.position} as this client left it; the session is at {held}"
        status = Status("FAILED_PRECONDITION", Reason.POSITION_MISMATCH, message, position=held)
        raise error_of(status, remote.subject)
    if held == remote.uncertain_rewind:
        _accept_rewind(remote, held)
    if held == remote.position:
        return held
    entries = remote.journal.after(held)
    if entries is None:
        raise _lost(remote, f"the server has it at position {held} of {remote.position}")
    for entry in _merged(entries, remote.batcher, apart=remote.keep or 1):
        yield from _replay(remote, entry, held)
        held += entry.steps
    return held


def _accept_rewind(remote: RemoteSession, held: int) -> None:
    """Notes that an uncertain rewind was applied, where it is still meant, or cannot be taken back.

    Raises:
        PositionMismatch: the caller took the rewind for one that had failed.
    """
    gone = remote.journal.after(held) is None  # a store may be all that had what it undid
    if not (remote.rewinding or gone):
        return
    message = f"the rewind to {held} that was not answered was applied, and cannot be taken back"
    status = Status("FAILED_PRECONDITION", Reason.POSITION_MISMATCH, message, position=held)
    remote.rewound(held)
    if not remote.rewinding:
        raise error_of(status, remote.subject)


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


def _merged(entries: Sequence[Entry], batcher: StepBatcher, *, apart: int) -> Iterator[Entry]:
    """Yields journal entries, joined to as few requests as fit if the model gives the same bits for both.

    The last `apart` entries are not joined: the server keeps the states before them, as it did at first.
    """
    model = batcher.model
    if model.exactness != "exact" or not all(spec.per_step for spec in model.inputs):
        yield from entries
        return
    gathered: list[tuple[int, InputBytes]] = []
    steps = 0
    for entry in entries[:-apart]:
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
    yield from entries[-apart:]


def _joined(entries: Sequence[tuple[int, InputBytes]]) -> Entry:
    columns = zip(*(payload for _, payload in entries), strict=True)
    return Entry(sum(steps for steps, _ in entries), tuple(b"".join(column) for column in columns))
