"""Takes a session back to before one of its last requests."""

from statewise.client.sessions._recovery import rebuildable, start_over
from statewise.client.sessions._remote_session import RemoteSession
from statewise.client.sessions._session_requests import ask_where_it_stands, until_answered
from statewise.client.sessions._state_changes import resolve_uncertainty
from statewise.client.stream import Operation
from statewise.client.values import InvalidInput, StatewiseError
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64


def rewind_session(remote: RemoteSession, to: int | None = None) -> Operation[None]:
    """Undoes the last request, or those after position `to`. One that raised may have been applied: repeated,
    it is done once.

    Raises:
        InvalidInput: nothing is kept from there.
    """
    before, target = remote.uncertain_rewind, _last_kept(remote)
    remote.rewinding = True
    try:
        if remote.uncertain:
            yield from resolve_uncertainty(remote)
            target = before if remote.position == before else _last_kept(remote)
        if to is None:
            yield from _rewind(remote, target)
        elif to != remote.position:
            yield from _rewind(remote, to)
    except (GeneratorExit, StatewiseError):
        remote.needs_replay |= remote.uncertain_rewind is not None
        raise
    finally:
        remote.rewinding = False


def _last_kept(remote: RemoteSession) -> int | None:
    return remote.kept_positions[-1] if remote.kept_positions else None


def _rewind(remote: RemoteSession, target: int | None) -> Operation[None]:
    if target is None:
        raise InvalidInput(
            f"session {remote.id!r} at position {remote.position}: expected a step or generation to undo; "
            f"{_undone_at_most(remote.keep or 1)}, and nothing from before a state that was written; "
            "session(keep=) keeps more requests, checkpoint(), fork() and snapshot() keep any state"
        )
    if target not in (*remote.kept_positions, remote.position):
        kept = ", ".join(map(str, remote.kept_positions)) or "none"
        raise InvalidInput(
            f"to: expected the name of a checkpoint, or one of the positions kept of session {remote.id!r} "
            f"({kept}); got {target}"
        )
    yield from until_answered(remote, lambda: _rewind_once(remote, target))


def _undone_at_most(number: int) -> str:
    return "the last request can be undone" if number == 1 else f"the last {number} requests can be undone"


def _rewind_once(remote: RemoteSession, target: int) -> Operation[None]:
    request = sequence_pb2.RewindSessionsRequest(positions=pack_uint64([target]))
    reply = yield from ask_where_it_stands(remote, "rewind", request, (Reason.POSITION_MISMATCH,))
    if reply.errors:
        # The server took the session from a store, without the state from before the last request.
        if not rebuildable(remote):
            remote.raise_row(reply.errors)
        yield from start_over(remote, target)
    else:
        remote.rewound(target)
