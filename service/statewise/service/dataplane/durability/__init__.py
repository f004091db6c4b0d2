"""Writes sessions to a store, tick by tick; lets replies wait for it, and requests for what sleeps in it."""

from statewise.service.dataplane.durability._checkpoints import Checkpoints
from statewise.service.dataplane.durability._look_up_budget import LookUpBudget
from statewise.service.dataplane.durability._row_flags import unpack_flags
from statewise.service.dataplane.durability._sleeping_handles import LACKS_ROOM, SleepingHandles
from statewise.service.dataplane.durability._store_log import StoreLog
from statewise.service.dataplane.durability._store_thread import StoreThread
from statewise.service.dataplane.durability._store_usage import StoreUsage
from statewise.service.dataplane.durability._store_waits import StoreWait
from statewise.service.dataplane.durability._stored_replies import StoredReplies, moved_failure
from statewise.service.dataplane.durability._stored_states import UndamagedSessions, keep_of_stored

__all__ = [
    "LACKS_ROOM",
    "Checkpoints",
    "LookUpBudget",
    "SleepingHandles",
    "StoreLog",
    "StoreThread",
    "StoreUsage",
    "StoreWait",
    "StoredReplies",
    "UndamagedSessions",
    "keep_of_stored",
    "moved_failure",
    "unpack_flags",
]
