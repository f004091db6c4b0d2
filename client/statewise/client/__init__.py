"""The client of a statewise server: whole sequences, sessions, many sessions at once.

`Client` blocks, `AsyncClient` awaits; the two offer the same. The errors are drawn as a tree in `_errors`.
"""

from statewise.client._async._client import AsyncClient
from statewise.client._async._session import AsyncSession
from statewise.client._async._session_group import AsyncSessionGroup
from statewise.client._sync._client import Client
from statewise.client._sync._session import Session
from statewise.client._sync._session_group import SessionGroup
from statewise.client.bulk._progress import Progress
from statewise.client.bulk._samples import Sample, Scored
from statewise.client.transport._channel import Tls
from statewise.client.values._errors import (
    InternalError,
    InvalidInput,
    InvalidSnapshot,
    LimitReached,
    ModelChanged,
    ModelNotFound,
    NotImplementedByServer,
    NotStreamable,
    Overloaded,
    PartialFailure,
    PermissionDenied,
    PositionMismatch,
    SessionExists,
    SessionExpired,
    SessionLost,
    SessionMoved,
    SessionNotFound,
    StatewiseError,
    Timeout,
    Unauthenticated,
    Unavailable,
)
from statewise.client.values._info import Limits, ModelInfo, ServerInfo, SessionInfo, TensorInfo
from statewise.client.values._stats import ModelStats, ServerStats

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "AsyncSessionGroup",
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
    "Scored",
    "ServerInfo",
    "ServerStats",
    "Session",
    "SessionExists",
    "SessionExpired",
    "SessionGroup",
    "SessionInfo",
    "SessionLost",
    "SessionMoved",
    "SessionNotFound",
    "StatewiseError",
    "TensorInfo",
    "Timeout",
    "Tls",
    "Unauthenticated",
    "Unavailable",
]
