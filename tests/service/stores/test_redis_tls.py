"""Reaches Redis and Sentinels with TLS and certificates of both sides, as the settings say."""

from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from redis import Redis
from tests.service.stores.blocks import assert_at, opening
from tests.service.stores.redis_server import free_port, redis_server
from tests.service.stores.sentinel import sentinel

from statewise.service import Settings, SettingsError
from statewise.service.dataplane.durability import StoreThread
from statewise.service.stores import StoreError, StoreUnavailable


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with certificates: of an authority, of another one, of the server, and of the client."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    for name, issued in (
        ("server", authority.issue_cert("127.0.0.1")),
        ("client", authority.issue_cert("c")),
    ):
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    return tmp_path


def directives(files: Path) -> dict[str, str]:
    """Settings of a server, or a Sentinel, that asks its clients for a certificate."""
    pairs = {"key": "server.pem", "cert": "server.pem", "ca-cert": "ca.pem"}
    return {f"tls-{name}-file": str(files / file) for name, file in pairs.items()} | {
        "tls-replication": "yes"
    }


def arguments(files: Path) -> list[str]:
    """The same as arguments."""
    return [part for name, value in directives(files).items() for part in (f"--{name}", value)]


def settings(files: Path, address: str, **changes: Any) -> Settings:
    """Settings that reach a server."""
    pem = files / "client.pem"
    mine = {"store_ca": files / "ca.pem", "store_certificate": pem, "store_key": pem}
    return Settings.load(**{"repository": files, "store": address, **mine, **changes})


async def open_and_write(chosen: Settings) -> None:
    """Opens the store of the settings and writes a session."""
    thread = StoreThread.of_settings(chosen)
    assert thread is not None
    await thread.call(thread.store.write, opening([1]))
    [read] = await thread.call(thread.store.read, [1])
    assert_at(read, 1, 1)
    await thread.close()


async def test_a_server_and_its_client_show_certificates(files: Path) -> None:
    port = free_port()
    with redis_server("--tls-port", str(port), *arguments(files)):
        address = f"rediss://127.0.0.1:{port}/0"
        await open_and_write(settings(files, address))
        unset = {"store_certificate": None, "store_key": None}
        for wrong in (
            settings(files, address, store_ca=files / "other.pem"),
            settings(files, address, **unset),
            settings(files, f"redis://127.0.0.1:{port}", store_ca=None, **unset),
        ):
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
                StoreThread.of_settings(wrong)


async def test_sentinels_are_reached_by_tls_too(files: Path) -> None:
    port, asked_port = free_port(), free_port()
    lines = [f"tls-port {asked_port}", "requirepass hunter2"]
    lines += [f"{name} {value}" for name, value in directives(files).items()]
    pem = str(files / "client.pem")
    client = Redis(
        host="127.0.0.1",
        port=asked_port,
        password="hunter2",
        ssl=True,
        ssl_ca_certs=str(files / "ca.pem"),
        ssl_certfile=pem,
        ssl_keyfile=pem,
    )
    (files / "password").write_text("hunter2\n")
    with (
        redis_server("--tls-port", str(port), *arguments(files)),
        sentinel(0, port, *lines, client=client),
    ):
        address = f"rediss+sentinel://127.0.0.1:{asked_port}/main"
        await open_and_write(settings(files, address, store_sentinel_password_file=files / "password"))
        with pytest.raises(
            StoreUnavailable, match=r"by its Sentinels: No master .*Authentication"
        ) as refused:
            StoreThread.of_settings(settings(files, address))
        assert "ssl_certfile" not in str(refused.value)


def test_files_that_cannot_be_used_are_named(files: Path) -> None:
    pem = serialization.load_pem_private_key((files / "client.pem").read_bytes(), None)
    protected = pem.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )
    (files / "protected.pem").write_bytes(protected)
    (files / "none.pem").write_text("nothing")
    for name, file in (
        ("store_ca", "nowhere.pem"),
        ("store_ca", "none.pem"),
        ("store_certificate", "nowhere.pem"),
        ("store_key", "server.pem"),
        ("store_key", "protected.pem"),
    ):
        chosen = settings(files, "rediss://127.0.0.1:1", **{name: files / file})
        with pytest.raises(StoreError, match=rf"cannot use the .*{file}.*: \S+") as refused:
            StoreThread.of_settings(chosen)
        assert not isinstance(refused.value, StoreUnavailable)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"store_key": None}, "store_certificate and store_key need each other"),
        ({"store": "redis://a"}, "store_ca needs TLS: expected store = rediss://"),
        ({"store": "redis://a", "store_ca": None}, "store_certificate needs TLS: expected store = rediss://"),
        ({"store_sentinel_password_file": "p"}, "store_sentinel_password_file needs Sentinels"),
        ({"store_answer_s": 0}, "store_answer_s = 0: expected more than 0"),
        ({"store_connect_s": 61}, "store_connect_s = 61: expected at most 60"),
    ],
)
def test_settings_that_do_not_fit_are_named(files: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(files, "rediss://a", **changes)
    assert str(refused.value).startswith(says)
