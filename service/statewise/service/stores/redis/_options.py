"""Reads where a Redis server is and how to reach it: the address, names, passwords and certificates.

A password is never part of the address: addresses are in flags, logs and messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from statewise.service.stores._store import StoreError

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
EXPECTED = (
    "expected redis://[user@]host[:port][/database], rediss:// for TLS, unix:///path, "
    "or redis+sentinel://host[:port],host[:port]/service[/database] (rediss+sentinel:// for TLS)"
)


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """How to reach a Redis server.

    Attributes:
        url: Its address, without password (see `Address`).
        password: The password as an environment variable has it.
        password_file: File with the password on its first line, read at each connecting.
        sentinel_password_file: The same for the Sentinels.
        prefix: What all keys begin with. Stores of one prefix share their sessions.
        connect_timeout_s: Longest wait for a connection.
        timeout_s: Longest wait for the server to take or send more bytes of a call.
        ca_file: Certificates that the server's is verified with; without it, the system's.
        certificate_file: Certificate of this client.
        key_file: Key of `certificate_file`.
        forget_ended_s: How long the store remembers that a session has ended.
    """

    url: str
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    sentinel_password_file: Path | None = None
    prefix: str = "statewise:"
    connect_timeout_s: float = 2.0
    timeout_s: float = 5.0
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    forget_ended_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Address:
    """An address, taken apart.

    Attributes:
        hosts: Host and port of the server, or of each Sentinel; none for a unix socket.
        path: Path of the unix socket, or "".
        service: The Sentinels' name for the primary, or "".
        tls: Whether connections are encrypted.
        user: Name of the user, or "" for the default one.
        database: Number of the database.
    """

    hosts: Sequence[tuple[str, int]]
    path: str
    service: str
    tls: bool
    user: str
    database: int


def parse_address(url: str) -> Address:
    """Takes an address apart.

    Raises:
        StoreError: It is no such address, or has a password.
    """
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        raise StoreError(f"not an address of a Redis server; {EXPECTED}") from None
    if password is not None:
        raise StoreError(
            "the address of the Redis server has a password in it: give the password in the file that "
            "store_password_file names, or in the environment variable STATEWISE_STORE_PASSWORD"
        )
    user = unquote(parts.username or "")
    if parts.scheme == "unix":
        if not parts.path:
            raise StoreError(f"{url!r} has no path; {EXPECTED}")
        return Address((), unquote(parts.path), "", False, user, 0)
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss") or kind not in ("", "sentinel") or parts.query or parts.fragment:
        raise StoreError(f"{url!r} is not an address of a Redis server; {EXPECTED}")
    sentinel = kind == "sentinel"
    hosts = _hosts(url, parts, DEFAULT_SENTINEL_PORT if sentinel else DEFAULT_PORT)
    path = [part for part in parts.path.split("/") if part]
    service = unquote(path.pop(0)) if sentinel and path else ""
    if (sentinel and not service) or (not sentinel and len(hosts) > 1) or len(path) > 1:
        raise StoreError(f"{url!r} is not an address of a Redis server; {EXPECTED}")
    if path and not (path[0].isascii() and path[0].isdigit()):
        raise StoreError(f"{url!r} names database {path[0]!r}, which is no number; {EXPECTED}")
    return Address(hosts, "", service, scheme == "rediss", user, int(path[0]) if path else 0)


def _hosts(url: str, parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for one in parts.netloc.rpartition("@")[2].split(","):
        try:
            split = urlsplit(f"//{one}")
            host, port = split.hostname, split.port or default_port
        except ValueError:
            host, port = None, 0
        if not host:
            raise StoreError(f"{url!r} names no host or no valid port; {EXPECTED}")
        hosts.append((host, port))
    return hosts
