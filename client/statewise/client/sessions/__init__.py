"""Operates sessions and groups of sessions: turns, positions, journals, recovery; never opens a new one."""

from statewise.client.sessions._group_core import GroupCore
from statewise.client.sessions._group_journal import GroupJournal
from statewise.client.sessions._journal import ByteBudget, Journal
from statewise.client.sessions._remote_rows import RemoteRows
from statewise.client.sessions._remote_session import OpenedSession, RemoteSession
from statewise.client.sessions._session_core import SessionCore
from statewise.client.sessions._session_generation import SessionGeneration

__all__ = [
    "ByteBudget",
    "GroupCore",
    "GroupJournal",
    "Journal",
    "OpenedSession",
    "RemoteRows",
    "RemoteSession",
    "SessionCore",
    "SessionGeneration",
]
