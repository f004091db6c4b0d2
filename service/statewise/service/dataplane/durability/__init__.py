"""Writes sessions to a store, tick by tick. Knows neither requests nor gRPC."""

from statewise.service.dataplane.durability._checkpoints import Checkpoints
from statewise.service.dataplane.durability._gathering import DURABILITY_SHIFT
from statewise.service.dataplane.durability._store_log import StoreLog
from statewise.service.dataplane.durability._store_thread import StoreThread
from statewise.service.dataplane.durability._store_usage import StoreUsage
from statewise.service.dataplane.durability._store_waits import StoreWait

__all__ = [
    "DURABILITY_SHIFT",
    "Checkpoints",
    "StoreLog",
    "StoreThread",
    "StoreUsage",
    "StoreWait",
]
