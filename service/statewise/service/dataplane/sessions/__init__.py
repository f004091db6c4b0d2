"""Opens, resumes, forks, rewinds, lists and closes sessions. Never runs steps or generations."""

from statewise.service.dataplane.sessions._idle_expiry import IdleExpiry
from statewise.service.dataplane.sessions._initial_states import InitialStates
from statewise.service.dataplane.sessions._session_access import SessionAccess, in_order, row_of
from statewise.service.dataplane.sessions._session_administration import SessionAdministration
from statewise.service.dataplane.sessions._session_directory import OpenedSession, SessionDirectory
from statewise.service.dataplane.sessions._session_listing import (
    ListedSession,
    PageStart,
    Residence,
    SessionListing,
)
from statewise.service.dataplane.sessions._session_turns import Portions, SessionTurns
from statewise.service.dataplane.sessions._sessions import Sessions
from statewise.service.dataplane.sessions._stored_sessions import StoredSessions
from statewise.service.dataplane.sessions._take_over import ExpectedSessions

__all__ = [
    "ExpectedSessions",
    "IdleExpiry",
    "InitialStates",
    "ListedSession",
    "OpenedSession",
    "PageStart",
    "Portions",
    "Residence",
    "SessionAccess",
    "SessionAdministration",
    "SessionDirectory",
    "SessionListing",
    "SessionTurns",
    "Sessions",
    "StoredSessions",
    "in_order",
    "row_of",
]
