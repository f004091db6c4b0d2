"""Keeps sessions in a Redis or Valkey server, one primary or one behind Sentinel. Needs the extra `redis`."""

from statewise.service.stores.redis._options import RedisOptions
from statewise.service.stores.redis._server import Persistence
from statewise.service.stores.redis._store import RedisStore

__all__ = [
    "Persistence",
    "RedisOptions",
    "RedisStore",
]
