"""Checks what kind of server answers and how it keeps what it is given."""

from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from statewise.service.stores._store import StoreError

LEAST_VERSION = (7, 0)


@dataclass(frozen=True, slots=True)
class Persistence:
    """What a server is configured to keep of what it acknowledged.

    With "always", everything. With "everysec", a loss of power costs up to two seconds, and so may the end of
    the server's process: while it syncs, it acknowledges before it writes. A failover costs what the replica
    lacked.

    Attributes:
        appendonly: Whether it has an append-only file; None where it does not tell.
        appendfsync: When that file is synced: "always", "everysec" or "no"; None where it does not tell.
        evicts: Whether it removes keys of the store when memory is short; None where it does not tell.
    """

    appendonly: bool | None
    appendfsync: str | None
    evicts: bool | None

    @property
    def warnings(self) -> list[str]:
        """What an operator should know, one sentence each."""
        found = []
        if self.appendonly is False:
            found.append(
                "The Redis server has no append-only file (appendonly no): "
                "sessions are lost when it is restarted, up to its last snapshot."
            )
        elif self.appendonly and self.appendfsync == "no":
            found.append(
                "The Redis server leaves syncing to its kernel (appendfsync no): "
                "a loss of power may cost some 30 s of sessions."
            )
        if self.evicts:
            found.append(
                "The Redis server may evict sessions when its memory is full: "
                "set maxmemory-policy to noeviction."
            )
        return found


def check_server(client: Redis, server: str) -> None:
    """Checks that the server is one that can keep sessions.

    Raises:
        StoreError: It is too old, a cluster or a Sentinel.
        redis.RedisError: It does not answer.
    """
    told: dict[str, Any] = client.info("server")
    version = str(told.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < LEAST_VERSION:
        raise StoreError(f"{server} is Redis {version}; the store needs 7.0 or newer, or Valkey")
    mode = told.get("redis_mode") or told.get("server_mode")
    if mode == "cluster":
        raise StoreError(f"{server} is a cluster, which cannot keep sessions: use one primary, or Sentinel")
    if mode == "sentinel":
        raise StoreError(f"{server} is a Sentinel: its address is redis+sentinel://host:port/service")


def read_persistence(client: Redis) -> Persistence:
    """Reads how the server keeps what it is given; what it does not tell is unknown.

    Raises:
        redis.RedisError: It does not answer.
    """
    try:
        told = client.config_get("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
    except (NoPermissionError, ResponseError):
        return Persistence(_has_append_only_file(client), None, None)
    policy, appendonly = told.get("maxmemory-policy"), told.get("appendonly")
    evicts = None if policy is None else told.get("maxmemory") != "0" and policy.startswith("allkeys")
    return Persistence(None if appendonly is None else appendonly == "yes", told.get("appendfsync"), evicts)


def _has_append_only_file(client: Redis) -> bool | None:
    try:
        told: dict[str, Any] = client.info("persistence")
    except (NoPermissionError, ResponseError):
        return None
    return bool(told["aof_enabled"]) if "aof_enabled" in told else None
