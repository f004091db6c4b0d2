"""Keeps sessions beyond the process: blocks, and stores of them. Knows no gRPC and no event loop."""

from statewise.service.base import StoredCheckpoint
from statewise.service.stores._block import ROW, Block, Group, Name, bytes_in_store
from statewise.service.stores._store import (
    READ_BYTES,
    Listed,
    Store,
    StoreDamaged,
    StoredSession,
    StoreError,
    StoreLost,
    StoreUnavailable,
    StoreVersionError,
    Usage,
    Written,
)

__all__ = [
    "READ_BYTES",
    "ROW",
    "Block",
    "Group",
    "Listed",
    "Name",
    "Store",
    "StoreDamaged",
    "StoreError",
    "StoreLost",
    "StoreUnavailable",
    "StoreVersionError",
    "StoredCheckpoint",
    "StoredSession",
    "Usage",
    "Written",
    "bytes_in_store",
]
