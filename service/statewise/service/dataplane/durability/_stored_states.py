"""Checks that the states of a stored session are those of a model version, and how many requests it keeps."""

from statewise.service.base import ServiceError
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.stores import StoredSession
from statewise.wire import Reason


def keep_of_stored(stored: StoredSession, digest: str, kept: KeptStates) -> int:
    """Returns how many requests a stored session keeps.

    Args:
        stored: The session.
        digest: Digest of the version in memory.
        kept: States of that version's sessions.

    Raises:
        ServiceError: MODEL_CHANGED, SESSION_LOST: the version cannot take the stored states.
    """
    if digest != stored.digest:
        raise ServiceError(
            Reason.MODEL_CHANGED,
            f"session {stored.session_id!r} was stored with another content of model {stored.model!r} "
            f"version {stored.version}",
        )
    keep = kept.keep_of_bytes(stored.state.size)
    if keep is None:
        raise ServiceError(
            Reason.SESSION_LOST, f"the stored state of session {stored.session_id!r} has another size"
        )
    return keep
