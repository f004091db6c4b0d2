"""Implements `Client` with threads that block; decides nothing that `core` can decide."""

from statewise.client._sync._client import Client
from statewise.client._sync._session import Session
from statewise.client._sync._session_group import SessionGroup

__all__ = ["Client", "Session", "SessionGroup"]
