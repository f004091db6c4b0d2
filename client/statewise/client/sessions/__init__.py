"""Operates single sessions: turns, positions, journals, recovery; never opens a new one."""

from statewise.client.sessions._commands import SessionCommand, StepCommand
from statewise.client.sessions._journal import ByteBudget, Entry, GeneratePayload, Journal, Payload
from statewise.client.sessions._remote_session import OpenedSession, RemoteSession
from statewise.client.sessions._session_core import SessionCore
from statewise.client.sessions._session_generation import SessionGeneration
from statewise.client.sessions._session_retries import resolve_uncertainty, retry_until_applied

__all__ = [
    "ByteBudget",
    "Entry",
    "GeneratePayload",
    "Journal",
    "OpenedSession",
    "Payload",
    "RemoteSession",
    "SessionCommand",
    "SessionCore",
    "SessionGeneration",
    "StepCommand",
    "resolve_uncertainty",
    "retry_until_applied",
]
