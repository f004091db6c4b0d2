"""Opens and closes TLS connections in great number on a busy machine: the server stays alive, and serves."""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc
import pytest
import trustme
from tests.cli.command import Server
from tests.helpers.caller import connect

from statewise.service.transport import port_answers
from statewise.v1 import admin_pb2

_CONNECTIONS = 2_000
_CALLERS = 6
_BUSY = "while True: pass"


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Two loops that keep both cores busy."""
    loops = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.mark.long
@pytest.mark.usefixtures("busy_machine")
@pytest.mark.parametrize("mutual", [False, True], ids=["server certificate", "client certificates"])
async def test_connections_that_come_and_go(repository: Path, tmp_path: Path, mutual: bool) -> None:
    """As probes make them: closed at once, after a few bytes, in the handshake and after it."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    pem, key, chain = (tmp_path / name for name in ("ca.pem", "server.key", "server.pem"))
    authority.cert_pem.write_to_path(pem)
    leaf.private_key_pem.write_to_path(key)
    leaf.cert_chain_pems[0].write_to_path(chain)
    context = ssl.create_default_context(cafile=str(pem))
    context.set_alpn_protocols(["h2"])
    if mutual:
        context.load_cert_chain(chain, key)
    shown = [key.read_bytes(), chain.read_bytes()] if mutual else [None, None]
    credentials = grpc.ssl_channel_credentials(pem.read_bytes(), *shown)
    env = {"STATEWISE_TLS_CERTIFICATE": str(chain), "STATEWISE_TLS_KEY": str(key)}
    with Server(
        repository, env={**env, **({"STATEWISE_TLS_CLIENT_CA": str(pem)} if mutual else {})}
    ) as server:
        host, _, port = server.target.rpartition(":")

        def come_and_go(number: int) -> None:
            with suppress(OSError), socket.create_connection((host, int(port)), timeout=20) as connection:
                if number % 4 == 0:
                    connection.sendall(b"\x16\x03\x01")
                elif number % 4 == 1:
                    with context.wrap_socket(connection, server_hostname=host) as secured:
                        secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                elif number % 4 == 2:
                    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

        with ThreadPoolExecutor(_CALLERS) as callers:
            list(callers.map(come_and_go, range(_CONNECTIONS)))
        assert server.lives, server.log
        asked = partial(port_answers, server.target, certificate=chain, key=key, timeout_s=20)
        assert await asyncio.to_thread(asked)
        async with connect(server.target, tls=credentials) as caller:
            assert (await caller.admin.GetServer(admin_pb2.GetServerRequest())).version
