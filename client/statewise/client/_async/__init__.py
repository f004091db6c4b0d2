"""Implements `AsyncClient` on an event loop; decides nothing that `core` can decide."""

from statewise.client._async._client import AsyncClient
from statewise.client._async._session import AsyncSession
from statewise.client._async._session_group import AsyncSessionGroup

__all__ = ["AsyncClient", "AsyncSession", "AsyncSessionGroup"]
