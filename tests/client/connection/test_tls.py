"""Connects with TLS on one side only, and to certificates that are not accepted: each is told."""

import datetime
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.client.clients import Clients

from statewise.client import Client, Tls, TlsError, Unavailable
from statewise.service.testing import server_in_thread

PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


class TlsServers:
    """Servers with certificates of one authority, by what is wrong with the certificate."""

    def __init__(self, folder: Path, repository: Path, running: ExitStack) -> None:
        self._folder, self._repository, self._running = folder, repository, running
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self.other_ca = folder / "other.pem"
        trustme.CA().cert_pem.write_to_path(self.other_ca)
        self.right = self._start("right", "127.0.0.1", "localhost")
        self.misnamed = self._start("misnamed", "elsewhere.example")
        self.expired = self._start(
            "expired", "127.0.0.1", not_before=PAST, not_after=PAST + datetime.timedelta(days=1)
        )
        self.mutual = self._start("mutual", "127.0.0.1", mutual=True)

    def _start(self, kind: str, *names: str, mutual: bool = False, **dates: Any) -> str:
        made = self._authority.issue_cert(*names, **dates)
        key, chain = self._folder / f"{kind}.key", self._folder / f"{kind}.pem"
        made.private_key_pem.write_to_path(key)
        chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        settings: dict[str, Any] = {"tls_certificate": chain, "tls_key": key}
        if mutual:
            settings["tls_client_ca"] = self.ca
        return self._running.enter_context(server_in_thread(self._repository, **settings))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[TlsServers]:
    with ExitStack() as running:
        yield TlsServers(tmp_path_factory.mktemp("tls"), repository, running)


def told(client: Client) -> list[Unavailable]:
    """Returns what a call and the session stream raise."""
    errors = []
    for ask in (client.server, lambda: client.predict("steps", [[0, 0, 0]]), lambda: client.resume("any")):
        with pytest.raises(Unavailable) as caught:
            ask()
        errors.append(caught.value)
    return errors


def test_a_right_certificate_is_accepted(clients: Clients, secured: TlsServers) -> None:
    for target in (secured.right, f"dns:///localhost:{secured.right.rpartition(':')[2]}"):
        assert clients.connect(target, tls=Tls(ca=secured.ca)).server().version
    named = Tls(ca=secured.ca, server_name="elsewhere.example")
    assert clients.connect(secured.misnamed, tls=named).server().version


@pytest.mark.parametrize(
    ("server", "ca", "why"),
    [
        ("right", "other_ca", r"cannot be verified \(.+\): tls=Tls\(ca=…\)"),
        ("misnamed", "ca", r"is for another name than the target's: tls=Tls\(server_name=…\)"),
        ("expired", "ca", "has expired"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_told_at_once(
    clients: Clients, secured: TlsServers, server: str, ca: str, why: str
) -> None:
    address = getattr(secured, server)
    client = clients.connect(address, tls=Tls(ca=getattr(secured, ca)), reconnect_s=600)
    for error in told(client):
        assert type(error) is TlsError
        assert re.search(f"the certificate of the server at {re.escape(address)} {why}", str(error))


def test_tls_at_a_plain_port_is_told_at_once(clients: Clients, address: str, secured: TlsServers) -> None:
    for error in told(clients.connect(address, tls=Tls(ca=secured.ca), reconnect_s=600)):
        assert type(error) is TlsError
        assert f"the server at {address} does not speak TLS: leave tls= out" in str(error)


def test_a_plain_client_at_a_tls_port_is_told_what_it_may_lack(clients: Clients, secured: TlsServers) -> None:
    for error in told(clients.connect(secured.right, reconnect_s=0.2)):
        assert "a server that expects TLS ends connections like this" in str(error)
        assert secured.right in str(error)


def test_a_client_without_its_certificate_is_told_so(clients: Clients, secured: TlsServers) -> None:
    for error in told(clients.connect(secured.mutual, tls=Tls(ca=secured.ca), reconnect_s=0.2)):
        assert "a server that asks for a client certificate ends connections like this" in str(error)


def test_a_name_that_cannot_be_resolved_is_named(clients: Clients) -> None:
    for error in told(clients.connect("dns:///nowhere.invalid:50051", reconnect_s=0.2)):
        assert "nowhere.invalid" in str(error)
        assert "is the address right" in str(error)


PROGRAM = """
import asyncio, logging, sys
from statewise.client import AsyncClient, Client, Unavailable
logging.basicConfig(level=logging.INFO)
try:
    if sys.argv[1] == "Client":
        Client("models.invalid:50051").server()
    else:
        async def ask():
            async with AsyncClient("models.invalid:50051") as client:
                await client.server()
        asyncio.run(ask())
except Unavailable as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_proxy_of_the_environment_is_named(kind: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    for spared in ("", "example.org,.invalid"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, kind],
            env={**environment, "https_proxy": "http://ann:secret@127.0.0.1:9", "no_proxy": spared},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        through = "through the proxy 127.0.0.1:9, which the environment names in https_proxy"
        assert (through in done.stdout) is (not spared), done
        assert "secret" not in done.stdout + done.stderr
        assert done.stderr.count("models.invalid:50051 is reached through the proxy 127.0.0.1:9") == (
            not spared
        )
