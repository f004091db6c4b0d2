"""Reads the server's description of one session, with its checkpoints and its state, into plain values."""

from dataclasses import dataclass

from statewise.client.values._given_state import read_own_state
from statewise.client.values._info import ModelInfo, SessionInfo, read_session
from statewise.client.values._inputs import Array
from statewise.client.values._state_info import CheckpointInfo, read_checkpoint
from statewise.v1 import admin_pb2


@dataclass(frozen=True, eq=False)
class SessionDetails(SessionInfo):
    """One session, as `session_info` describes it."""

    checkpoints: tuple[CheckpointInfo, ...] = ()
    """States that it keeps under names, in the order in which they were made."""
    arrays: dict[str, Array] | None = None
    """The state at `position`, by part, as `Session.state()` gives it; None: it was not asked for."""


def read_session_details(
    response: admin_pb2.GetSessionResponse, model: ModelInfo | None = None
) -> SessionDetails:
    """Reads a session's description.

    Args:
        response: the server's.
        model: the session's version, where its state was asked for.
    """
    return SessionDetails(
        **vars(read_session(response.session)),
        checkpoints=tuple(map(read_checkpoint, response.checkpoints)),
        arrays=None if model is None else read_own_state(model, response.state),
    )
