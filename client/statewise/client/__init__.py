"""Calls a statewise server: whole sequences, sessions, groups of sessions.

`Client` blocks, `AsyncClient` awaits; both offer the same methods. The errors are drawn as a
tree in `values/_errors.py`.
"""

from importlib.metadata import PackageNotFoundError, version

from statewise.client._async import AsyncClient, AsyncSession, AsyncSessionGroup
from statewise.client._sync import Client, Session, SessionGroup
from statewise.client.bulk import Progress, Sample, SampleFiles, Scored
from statewise.client.transport import Tls
from statewise.client.values import (
    CheckpointExists,
    CheckpointInfo,
    CheckpointNotFound,
    InternalError,
    InvalidInput,
    InvalidSnapshot,
    LimitReached,
    Limits,
    ModelChanged,
    ModelInfo,
    ModelNotFound,
    ModelStats,
    NotImplementedByServer,
    NotStreamable,
    Overloaded,
    PartialFailure,
    PermissionDenied,
    PositionMismatch,
    ServerInfo,
    ServerStats,
    SessionDetails,
    SessionExists,
    SessionExpired,
    SessionInfo,
    SessionLost,
    SessionMoved,
    SessionNotFound,
    StateInfo,
    States,
    StatewiseError,
    TensorInfo,
    Timeout,
    TlsError,
    Unauthenticated,
    Unavailable,
)

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "AsyncSessionGroup",
    "CheckpointExists",
    "CheckpointInfo",
    "CheckpointNotFound",
    "Client",
    "InternalError",
    "InvalidInput",
    "InvalidSnapshot",
    "LimitReached",
    "Limits",
    "ModelChanged",
    "ModelInfo",
    "ModelNotFound",
    "ModelStats",
    "NotImplementedByServer",
    "NotStreamable",
    "Overloaded",
    "PartialFailure",
    "PermissionDenied",
    "PositionMismatch",
    "Progress",
    "Sample",
    "SampleFiles",
    "Scored",
    "ServerInfo",
    "ServerStats",
    "Session",
    "SessionDetails",
    "SessionExists",
    "SessionExpired",
    "SessionGroup",
    "SessionInfo",
    "SessionLost",
    "SessionMoved",
    "SessionNotFound",
    "StateInfo",
    "States",
    "StatewiseError",
    "TensorInfo",
    "Timeout",
    "Tls",
    "TlsError",
    "Unauthenticated",
    "Unavailable",
]

try:
    __version__ = version("statewise")
except PackageNotFoundError:  # a copy of the sources that was not installed
    __version__ = "0+unknown"
