"""Keeps sessions and their states in arrays. Knows no scheduling, asyncio or gRPC."""

from statewise.service.session_state._arena import StateArena, reserve
from statewise.service.session_state._changed_sessions import (
    ChangedCheckpoints,
    ChangedSessions,
    TakenCheckpoints,
)
from statewise.service.session_state._columns import NO_POSITION
from statewise.service.session_state._digests import digest_rows
from statewise.service.session_state._durability import Durability
from statewise.service.session_state._quotas import Quotas
from statewise.service.session_state._scan import SessionScan
from statewise.service.session_state._snapshots import (
    LEAST_TOKEN_BYTES,
    Snapshot,
    Snapshots,
    checkpoint_bytes_of,
    pack_state,
    unpack_state,
)
from statewise.service.session_state._stored_columns import public_epoch
from statewise.service.session_state._stored_quotas import ALL_OWNERS, StoredQuotas
from statewise.service.session_state._table import SessionTable, SessionView

__all__ = [
    "ALL_OWNERS",
    "LEAST_TOKEN_BYTES",
    "NO_POSITION",
    "ChangedCheckpoints",
    "ChangedSessions",
    "Durability",
    "Quotas",
    "SessionScan",
    "SessionTable",
    "SessionView",
    "Snapshot",
    "Snapshots",
    "StateArena",
    "StoredQuotas",
    "TakenCheckpoints",
    "checkpoint_bytes_of",
    "digest_rows",
    "pack_state",
    "public_epoch",
    "reserve",
    "unpack_state",
]
