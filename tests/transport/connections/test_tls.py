"""Connects with TLS: right and wrong certificates on either side, and their renewal while serving."""

import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tests.helpers.caller import Caller, connect

from statewise.service import ServerError, Settings, SettingsError
from statewise.service.server import Server
from statewise.service.testing import running_server
from statewise.service.transport import CertificateRenewal, TransportError, check_exposure
from statewise.v1 import admin_pb2
from statewise.v1 import sequence_pb2 as pb

LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
YESTERDAY = LONG_AGO + datetime.timedelta(days=1)


class Authority:
    """A certificate authority that writes what it issues to files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.pem = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.pem)

    def issue(self, *names: str, to: str = "server", expired: bool = False, **options: Any) -> dict[str, Any]:
        """Issues a certificate and its key as files, under the names of the server's settings."""
        dates: dict[str, Any] = {"not_before": LONG_AGO, "not_after": YESTERDAY} if expired else {}
        made = self._ca.issue_cert(*names, **dates, **options)
        files = {"tls_certificate": self.folder / f"{to}.pem", "tls_key": self.folder / f"{to}.key"}
        new = self.folder / "new"
        for file, content in (
            (files["tls_key"], made.private_key_pem.bytes()),
            (files["tls_certificate"], b"".join(blob.bytes() for blob in made.cert_chain_pems)),
        ):
            new.write_bytes(content)
            new.replace(file)
        return files

    def trusted(self, shown: dict[str, Path] | None = None) -> grpc.ChannelCredentials:
        """Credentials of a client that trusts this authority, with the certificate that the client shows."""
        files = [None, None] if shown is None else [shown["tls_key"], shown["tls_certificate"]]
        key, chain = [None if file is None else file.read_bytes() for file in files]
        return grpc.ssl_channel_credentials(self.pem.read_bytes(), key, chain)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ours").mkdir()
    return Authority(tmp_path / "ours")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority, which neither side trusts."""
    (tmp_path / "theirs").mkdir()
    return Authority(tmp_path / "theirs")


@pytest.fixture
async def mutual(repository: Path, authority: Authority) -> AsyncIterator[str]:
    """A server that asks its clients for certificates."""
    files = authority.issue("127.0.0.1")
    async with running_server(repository, **files, tls_client_ca=authority.pem) as address:
        yield address


async def tell(caller: Caller) -> str:
    """Makes a call, and so a connection; gives the server's version."""
    reply = await caller.admin.GetServer(admin_pb2.GetServerRequest())
    return str(reply.version)


async def refused(caller: Caller) -> None:
    """Expects that a call cannot connect."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await tell(caller)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_is_known_by_its_authority(
    repository: Path, authority: Authority, stranger: Authority
) -> None:
    async with running_server(repository, **authority.issue("127.0.0.1")) as address:
        async with connect(address, tls=authority.trusted()) as caller:
            assert await tell(caller)
        async with connect(address, tls=stranger.trusted()) as misled, connect(address) as in_clear:
            await refused(misled)
            await refused(in_clear)


async def test_an_expired_certificate_of_the_server_is_refused_by_its_clients(
    repository: Path, authority: Authority
) -> None:
    async with (
        running_server(repository, **authority.issue("127.0.0.1", expired=True)) as address,
        connect(address, tls=authority.trusted()) as caller,
    ):
        await refused(caller)


async def test_clients_show_a_certificate_of_the_right_authority_that_is_still_good(
    mutual: str, authority: Authority, stranger: Authority
) -> None:
    for shown in (
        None,
        stranger.issue(common_name="ann", to="ann"),
        authority.issue(common_name="ann", to="ann", expired=True),
    ):
        async with connect(mutual, tls=authority.trusted(shown)) as caller:
            await refused(caller)
    async with connect(mutual, tls=authority.trusted(authority.issue(common_name="ann", to="ann"))) as caller:
        assert await tell(caller)


async def test_a_certificates_name_is_its_owner(mutual: str, authority: Authority) -> None:
    by_common_name = authority.trusted(authority.issue(common_name="ann", to="ann"))
    by_alternative = authority.trusted(authority.issue("bob.example.org", common_name="ann", to="bob"))
    async with connect(mutual, tls=by_common_name) as ann, connect(mutual, tls=by_alternative) as bob:
        await ann.open("steps", "a")
        unseen = await bob.ask(resume=pb.ResumeSessionsRequest(session_ids=["a"]))
        assert unseen.errors[0].reason == "SESSION_NOT_FOUND"
        await bob.open("steps", "b")
        for caller, owner in ((ann, "ann"), (bob, "bob.example.org")):
            listed = await caller.admin.ListSessions(admin_pb2.ListSessionsRequest())
            assert [one.owner for one in listed.sessions] == [owner]
        # A certificate alone does not make its owner an admin.
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ann.admin.ListSessions(admin_pb2.ListSessionsRequest(owner="bob.example.org"))
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_callers_file_says_what_certificates_are_good_for(
    repository: Path, authority: Authority, tmp_path: Path
) -> None:
    callers = tmp_path / "callers.toml"
    callers.write_text('[[caller]]\nowner = "ann"\nscopes = ["admin"]\ncertificate = "ann.example.org"\n')
    settings = {**authority.issue("127.0.0.1"), "tls_client_ca": authority.pem, "callers": callers}
    async with running_server(repository, **settings) as address:
        shown = authority.trusted(authority.issue("other.example.org", "ann.example.org", to="ann"))
        async with connect(address, tls=shown) as ann:
            await ann.admin.ListSessions(admin_pb2.ListSessionsRequest(owner="anybody"))
        async with connect(
            address, tls=authority.trusted(authority.issue("eve.example.org", to="eve"))
        ) as eve:
            with pytest.raises(grpc.aio.AioRpcError, match=r"no caller is known by .*'eve\.example\.org'"):
                await tell(eve)


async def test_a_renewed_certificate_is_picked_up_by_the_next_connection(
    repository: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Open connections go on; a renewal that is half done or broken changes nothing."""
    files = authority.issue("127.0.0.1", expired=True)
    async with running_server(repository, **files) as address:
        async with connect(address, tls=authority.trusted()) as caller:
            await refused(caller)
        authority.issue("127.0.0.1")
        async with connect(address, tls=authority.trusted()) as before:
            await before.open("steps", "a")
            # The new key is in place, its certificate is not yet.
            good = files["tls_certificate"].read_bytes()
            authority.issue("127.0.0.1")
            new = files["tls_certificate"].read_bytes()
            files["tls_certificate"].write_bytes(good)
            async with connect(address, tls=authority.trusted()) as meanwhile:
                assert await tell(meanwhile)
            assert "the certificate stays as it was" in caplog.text
            assert "PRIVATE KEY" not in caplog.text
            files["tls_certificate"].write_bytes(new)
            async with connect(address, tls=authority.trusted()) as after:
                assert await tell(after)
            assert not (await before.ask(resume=pb.ResumeSessionsRequest(session_ids=["a"]))).errors


def test_a_renewed_certificate_waits_until_the_connections_before_it_have_begun(authority: Authority) -> None:
    """gRPC frees the replaced certificate, although a connection may be about to use it."""
    files = authority.issue("127.0.0.1")
    now_s, waits_s, made = 0.0, list[float](), list[grpc.ServerCertificateConfiguration]()

    def read() -> grpc.ServerCertificateConfiguration:
        pair = files["tls_key"].read_bytes(), files["tls_certificate"].read_bytes()
        made.append(grpc.ssl_server_certificate_configuration([pair]))
        return made[-1]

    renewal = CertificateRenewal(
        read, files["tls_certificate"], files["tls_key"], clock=lambda: now_s, sleep=waits_s.append
    )
    for since_s, waited_s in ((0.15, [0.35]), (60.0, []), (0.0, [0.5])):
        assert renewal() is None
        authority.issue("127.0.0.1")
        now_s += since_s
        assert renewal() is made[-1]
        assert waits_s == pytest.approx(waited_s)
        waits_s.clear()
    assert len(made) == 3


@pytest.mark.parametrize("wrong", ["certificate", "key", "mismatch", "missing", "client_ca"])
async def test_files_that_cannot_be_used_are_one_clear_error(
    repository: Path, authority: Authority, stranger: Authority, wrong: str
) -> None:
    settings: dict[str, Any] = authority.issue("127.0.0.1")
    match wrong:
        case "certificate" | "key":
            settings[f"tls_{wrong}"].write_text("nonsense")
        case "mismatch":
            settings["tls_key"] = stranger.issue("127.0.0.1")["tls_key"]
        case "missing":
            settings["tls_key"].unlink()
        case "client_ca":
            settings["tls_client_ca"] = settings["tls_key"]
    server = Server(Settings(repository=repository, listen="127.0.0.1:0", **settings))
    with pytest.raises(ServerError, match=r"ours/server\.(pem|key)") as error:
        await server.start()
    assert "PRIVATE" not in str(error.value)
    await server.stop()


def test_settings_of_tls_need_each_other(repository: Path, authority: Authority) -> None:
    files = authority.issue("127.0.0.1")
    with pytest.raises(SettingsError, match=r"^tls_certificate and tls_key need each other$"):
        Settings.load(repository=repository, tls_key=files["tls_key"])
    with pytest.raises(SettingsError, match=r"^tls_client_ca needs tls_certificate"):
        Settings.load(repository=repository, tls_client_ca=authority.pem)


def test_the_world_is_served_where_callers_are_known_and_encrypted_or_that_is_not_wanted(
    repository: Path, authority: Authority
) -> None:
    outside: dict[str, Any] = {"repository": repository, "listen": "0.0.0.0:50051"}
    files = authority.issue("127.0.0.1")
    check_exposure(Settings(**outside, **files, tls_client_ca=authority.pem))
    check_exposure(Settings(**outside, **files, callers=Path("callers.toml")))
    check_exposure(Settings(**outside, insecure=True))
    with pytest.raises(TransportError, match="no callers that it could tell apart"):
        check_exposure(Settings(**outside, **files))
