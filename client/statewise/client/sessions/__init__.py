"""Operates single sessions: turns, positions, journals, recovery; never opens a new one."""

from statewise.client.sessions._commands import SessionCommand, StepCommand
from statewise.client.sessions._journal import ByteBudget, Entry, GeneratePayload, Journal, Payload
from statewise.client.sessions._origin import INITIAL, Origin
from statewise.client.sessions._remote_session import OpenedSession, RemoteSession, StateChange
from statewise.client.sessions._rewinds import rewind_session
from statewise.client.sessions._session_core import SessionCore
from statewise.client.sessions._session_generation import SessionGeneration
from statewise.client.sessions._session_requests import (
    ask_where_it_stands,
    check_new_enough,
    until_answered,
)
from statewise.client.sessions._session_retries import retry_until_applied
from statewise.client.sessions._state_changes import (
    GoToCheckpoint,
    WriteState,
    change_state,
    resolve_uncertainty,
)

__all__ = [
    "INITIAL",
    "ByteBudget",
    "Entry",
    "GeneratePayload",
    "GoToCheckpoint",
    "Journal",
    "OpenedSession",
    "Origin",
    "Payload",
    "RemoteSession",
    "SessionCommand",
    "SessionCore",
    "SessionGeneration",
    "StateChange",
    "StepCommand",
    "WriteState",
    "ask_where_it_stands",
    "change_state",
    "check_new_enough",
    "resolve_uncertainty",
    "retry_until_applied",
    "rewind_session",
    "until_answered",
]
