"""Keeps earlier states of sessions: from before their last requests, and under names. Runs no request."""

from statewise.service.session_state.kept_states._kept_states import KeptStates
from statewise.service.session_state.kept_states._named_checkpoints import NamedCheckpoints

__all__ = ["KeptStates", "NamedCheckpoints"]
