"""Asks the port that tells health and nothing else, of servers with and without TLS and callers."""

import asyncio
import http.client
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.helpers.metrics_server import http_get

from statewise.service import Settings, SettingsError
from statewise.service.server import Server

CALLERS = f'[[caller]]\nowner = "ann"\nscopes = ["predict"]\ntoken_sha256 = "{"0" * 64}"\n'
OTHER_PATHS = [
    "/",
    "/metrics",
    "/metrics/",
    "/readyz/",
    "/healthz/x",
    "/HEALTHZ",
    "/x/../metrics",
]


@asynccontextmanager
async def serving(repository: Path, **settings: Any) -> AsyncIterator[Server]:
    """A server with a health port."""
    chosen = {"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0", **settings}
    server = Server(Settings(repository=repository, **chosen))
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def answer_of(address: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an answer to the path exactly as it is; blocks."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


async def test_it_tells_whether_the_server_is_ready_and_alive(repository: Path, tmp_path: Path) -> None:
    async with serving(tmp_path, repository_poll_s=0.05) as server:
        address = server.health_address
        assert not server.metrics_address
        assert await asyncio.to_thread(http_get, address, "/readyz") == (503, "the server serves no model\n")
        assert await asyncio.to_thread(http_get, address, "/healthz") == (200, "alive\n")
        shutil.copytree(repository / "last", tmp_path / "last")
        while (await asyncio.to_thread(http_get, address, "/readyz"))[0] != 200:
            pass  # the server finds the model
        assert await asyncio.to_thread(http_get, address, "/readyz") == (200, "ready\n")


async def test_the_port_is_closed_when_the_server_has_stopped(repository: Path) -> None:
    async with serving(repository) as server:
        address = server.health_address
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(http_get, address, "/healthz")


@pytest.mark.parametrize("beside_metrics", [False, True])
async def test_it_answers_no_other_path(repository: Path, beside_metrics: bool) -> None:
    more = {"metrics_listen": "127.0.0.1:0"} if beside_metrics else {}
    async with serving(repository, **more) as server:
        for path in OTHER_PATHS:
            status, _, body = await asyncio.to_thread(answer_of, server.health_address, path)
            assert (status, body) == (404, "there are /readyz and /healthz\n"), path
        if beside_metrics:
            assert (await asyncio.to_thread(http_get, server.metrics_address, "/metrics"))[0] == 200


async def test_it_says_nothing_of_what_the_server_is_made_of(repository: Path) -> None:
    async with serving(repository) as server:
        for method, path in [("GET", "/healthz"), ("GET", "/metrics"), ("POST", "/"), ("GET", "/ x")]:
            status, headers, body = await asyncio.to_thread(answer_of, server.health_address, path, method)
            assert status in (200, 400, 404)
            assert "ython" not in body + "".join(headers.values())
            assert headers["Server"].strip() == "statewise"


async def test_a_server_with_tls_and_callers_tells_its_health_in_clear(
    repository: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    files = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.key"}
    made.cert_chain_pems[0].write_to_path(files["tls_certificate"])
    made.private_key_pem.write_to_path(files["tls_key"])
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "callers.toml").write_text(CALLERS)
    async with serving(
        repository, **files, tls_client_ca=tmp_path / "ca.pem", callers=tmp_path / "callers.toml"
    ) as server:
        for path, text in (("/readyz", "ready\n"), ("/healthz", "alive\n")):
            assert await asyncio.to_thread(http_get, server.health_address, path) == (200, text)
        assert (await asyncio.to_thread(answer_of, server.health_address, "/metrics"))[0] == 404


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "127.0.0.1:0", "pod.example:1"])
def test_other_machines_may_ask_for_health(repository: Path, address: str) -> None:
    assert Settings.load(repository=repository, health_listen=address).health_listen == address


@pytest.mark.parametrize("address", ["8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:http"])
def test_an_address_of_the_health_port_has_host_and_port(repository: Path, address: str) -> None:
    with pytest.raises(SettingsError, match=f"^health_listen = '{address}': expected HOST:PORT$"):
        Settings.load(repository=repository, health_listen=address)
