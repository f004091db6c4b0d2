"""Connects to a Redis server: directly, by a unix socket, or to the primary that Sentinels name.

redis-py's own retries are off: a call that may have run is repeated by the store, which numbers it anew.
"""

import ssl
from pathlib import Path
from typing import Any

from redis import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel

from statewise.service.stores._store import StoreError
from statewise.service.stores.redis._command_packer import CommandPacker
from statewise.service.stores.redis._options import Address, RedisOptions


class Credentials(CredentialProvider):
    """Gives the password at each connecting, so that a changed file needs no restart."""

    def __init__(self, user: str, password: str | None, file: Path | None) -> None:
        self._user = user
        self._password = password
        self._file = file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Returns user and password, or the password alone.

        Raises:
            StoreError: The file cannot be read, or is empty.
        """
        password = self._password or ""
        if self._file is not None:
            password = _first_line(self._file)
        return (self._user, password) if self._user else (password,)


def _first_line(file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StoreError(f"cannot read the password of the Redis server from {file}: {reason}") from None
    if not password:
        raise StoreError(f"the first line of {file}, which has the password of the Redis server, is empty")
    return password


def connect(address: Address, options: RedisOptions) -> Redis:
    """Returns a client, which connects at its first call."""
    common = _common(options)
    if address.tls:
        _check_files(options)
        common |= _tls(options)
    named: dict[str, Any] = {"db": address.database, "command_packer": CommandPacker()}
    if options.password is not None or options.password_file is not None:
        named["credential_provider"] = Credentials(address.user, options.password, options.password_file)
    elif address.user:
        raise StoreError(
            f"user {address.user!r} of the Redis server has no password: set store_password_file"
        )
    if address.service:
        return _by_sentinels(address, options, common, common | named)
    kind: type[Connection] | type[UnixDomainSocketConnection] = SSLConnection if address.tls else Connection
    if address.path:
        kind = UnixDomainSocketConnection
        named |= {"path": address.path}
    else:
        host, port = address.hosts[0]
        named |= {"host": host, "port": port}
    return Redis(connection_pool=ConnectionPool(connection_class=kind, **common, **named))


def _common(options: RedisOptions) -> dict[str, Any]:
    return {
        "socket_timeout": options.timeout_s,
        "socket_connect_timeout": options.connect_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def _tls(options: RedisOptions) -> dict[str, Any]:
    return {
        "ssl_ca_certs": _text(options.ca_file),
        "ssl_certfile": _text(options.certificate_file),
        "ssl_keyfile": _text(options.key_file),
        "ssl_password": "",  # without one, a protected key would wait for somebody at a terminal
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }


def _check_files(options: RedisOptions) -> None:
    """Checks certificates and key, which are read again at each connecting.

    Raises:
        StoreError: One of them cannot be used; the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, certificate = options.ca_file, options.certificate_file
    try:
        if authorities is not None:
            what = f"the authorities of the Redis server's certificate, {authorities}"
            context.load_verify_locations(authorities)
        if certificate is not None:
            what = f"the certificate for the Redis server, {certificate}, with the key {options.key_file}"
            context.load_cert_chain(certificate, options.key_file, password="")
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise StoreError(f"cannot use {what}: {reason}") from None


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _by_sentinels(
    address: Address, options: RedisOptions, common: dict[str, Any], server: dict[str, Any]
) -> Redis:
    tls = {"ssl": True} if address.tls else {}
    asking = common | tls
    if options.sentinel_password_file is not None:
        asking["credential_provider"] = Credentials("", None, options.sentinel_password_file)
    by_sentinels: Any = Sentinel  # redis-py declares no types of its methods
    client: Redis = by_sentinels(list(address.hosts), sentinel_kwargs=asking).master_for(
        address.service, **server, **tls
    )
    return client
