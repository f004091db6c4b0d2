"""Keeps sessions in an SQLite database, with log files beside it. Knows no other kind of store."""

from statewise.service.stores.sqlite._files import Files
from statewise.service.stores.sqlite._sqlite_store import SqliteStore

__all__ = ["Files", "SqliteStore"]
