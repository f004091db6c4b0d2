"""Sends tokens and certificates, and refuses servers that are not trusted."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme
from tests.client.clients import Clients

from statewise.client import InvalidInput, Tls, Unauthenticated, Unavailable
from statewise.service import Scope, add_token
from statewise.service.testing import server_in_thread

X = np.zeros((2, 3), np.float32)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def pem(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def issue(authority: trustme.CA, folder: Path, name: str) -> dict[str, Path]:
    """A certificate for a name, and its key."""
    made = authority.issue_cert(name)
    files = {"certificate": folder / f"{name}.pem", "key": folder / f"{name}.key"}
    made.private_key_pem.write_to_path(str(files["key"]))
    for index, blob in enumerate(made.cert_chain_pems):
        blob.write_to_path(str(files["certificate"]), append=index > 0)
    return files


@pytest.fixture
def guarded(repository: Path, authority: trustme.CA, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server with TLS that wants tokens, and a token."""
    files = issue(authority, tmp_path, "localhost")
    token = add_token(tmp_path / "callers.toml", "ann", [Scope.PREDICT, Scope.SESSION])
    with server_in_thread(
        repository,
        listen="127.0.0.1:0",
        tls_certificate=files["certificate"],
        tls_key=files["key"],
        callers=tmp_path / "callers.toml",
    ) as address:
        # By the name alone, a server of another test may have the port at one of the two addresses.
        yield address.replace("127.0.0.1", "localhost"), token


def test_a_token_travels_with_every_call(clients: Clients, guarded: tuple[str, str], pem: Path) -> None:
    address, token = guarded
    client = clients.connect(address, token=token, tls=Tls(ca=pem))
    assert client.predict("steps", X).shape == (2, 2)
    with client.session("steps") as session:
        assert session.step(X).shape == (2, 2)
        assert [info.owner for info in client.list_sessions()] == ["ann"]


@pytest.mark.parametrize("token", [None, "open barley"])
def test_without_the_token_the_advice_is_to_pass_one(
    clients: Clients, guarded: tuple[str, str], pem: Path, token: str | None
) -> None:
    with pytest.raises(Unauthenticated, match=r"pass token="):
        clients.connect(guarded[0], token=token, tls=Tls(ca=pem)).predict("steps", X)


@pytest.mark.parametrize("tls", [None, True])
def test_whom_it_does_not_trust_it_does_not_talk_to(
    clients: Clients, guarded: tuple[str, str], tls: bool | None
) -> None:
    with pytest.raises(Unavailable):
        clients.connect(guarded[0], token=guarded[1], tls=tls).server()


def test_a_name_that_is_not_the_targets(clients: Clients, guarded: tuple[str, str], pem: Path) -> None:
    address = guarded[0].replace("localhost", "127.0.0.1")
    with pytest.raises(Unavailable):
        clients.connect(address, token=guarded[1], tls=Tls(ca=pem)).server()
    tls = Tls(ca=pem, server_name="localhost")
    assert clients.connect(address, token=guarded[1], tls=tls).server().store == "none"


def test_a_certificate_may_tell_who_it_is(
    clients: Clients, repository: Path, authority: trustme.CA, pem: Path, tmp_path: Path
) -> None:
    server = issue(authority, tmp_path, "localhost")
    mine = issue(authority, tmp_path, "scorer.example.org")
    tls = Tls(ca=pem, certificate=mine["certificate"], key=mine["key"])
    with server_in_thread(
        repository,
        listen="127.0.0.1:0",
        tls_certificate=server["certificate"],
        tls_key=server["key"],
        tls_client_ca=pem,
    ) as bound:
        address = bound.replace("127.0.0.1", "localhost")
        with clients.connect(address, tls=tls).session("steps", id="known") as session:
            session.step(X)
            listed = clients.connect(address, tls=tls).list_sessions()
            assert [info.owner for info in listed] == ["scorer.example.org"]
            session.close()
        with pytest.raises(Unavailable):
            clients.connect(address, tls=Tls(ca=pem)).server()


def test_a_certificate_that_is_no_file_is_named(clients: Clients) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pem"):
        clients.connect("127.0.0.1:1", tls=Tls(ca="nowhere.pem")).server()


@pytest.mark.parametrize(
    "target",
    ["", "http://127.0.0.1:50051", "127.0.0.1:0", "localhost:65536", "ipv4:10.0.0.1:1,10.0.0.2:99999"],
)
def test_a_target_that_would_be_misread_is_refused(clients: Clients, target: str) -> None:
    with pytest.raises(InvalidInput, match=f"target: expected HOST:PORT.*; got {target!r}"):
        clients.connect(target)


@pytest.mark.parametrize("token", ["", "swt_abc\n", " two words", "clé"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(clients: Clients, token: str) -> None:
    with pytest.raises(InvalidInput, match="token: expected printable ASCII characters") as refused:
        clients.connect("127.0.0.1:1", token=token)
    assert not token or token.strip() not in str(refused.value)
