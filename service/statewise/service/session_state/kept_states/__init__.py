"""Keeps earlier states of sessions: those from before their last requests. Knows no requests and no store."""

from statewise.service.session_state.kept_states._kept_states import KeptStates
from statewise.service.session_state.kept_states._state_rings import StateRings

__all__ = ["KeptStates", "StateRings"]
