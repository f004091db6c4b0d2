"""Runs the health check of the container image as Docker does, beside servers with TLS and without.

Their settings stand in the environment, in a configuration file, or some here and some there.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

PROBE = Path(__file__).parents[3] / "docker/probe.py"
COMMAND = Path(sys.executable).parent / "statewise"
"""The probe knows the server by its command line."""
PLACES = {
    "all in the environment": ("environment", "environment"),
    "all in the file": ("file", "file"),
    "addresses in the environment": ("environment", "file"),
    "other addresses in the file": ("both", "file"),
}
"""Where the addresses stand, and where TLS does."""


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """Settings of a server with TLS."""
    made = trustme.CA().issue_cert("localhost", "127.0.0.1")
    files = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.key"}
    made.cert_chain_pems[0].write_to_path(files["tls_certificate"])
    made.private_key_pem.write_to_path(files["tls_key"])
    return {name: str(path) for name, path in files.items()}


def free_addresses() -> dict[str, str]:
    """Settings of a server with ports that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [free.getsockname()[1] for free in (one, other)]
    return {"listen": f"127.0.0.1:{ports[0]}", "metrics_listen": f"127.0.0.1:{ports[1]}"}


def probe(variables: dict[str, str]) -> int:
    """Runs the script with the variables that the image and the compose file set; gives its exit code."""
    command = [sys.executable, "-W", "error", str(PROBE)]
    return subprocess.run(command, env=variables, stderr=subprocess.DEVNULL, timeout=100).returncode


@contextmanager
def serving(repository: Path, options: list[str | Path], variables: dict[str, str]) -> Iterator[None]:
    """Runs a server with these variables and no others, as a container does."""
    command = [COMMAND, "serve", "--repository", repository, *options]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("listening on")
            yield
        finally:
            server.terminate()


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_healthy_is_who_takes_work(
    repository: Path, tmp_path: Path, certificate: dict[str, str], places: str, tls: bool
) -> None:
    addresses_in, tls_in = PLACES[places]
    addresses = free_addresses()
    pair = certificate if tls else {}
    variables = {"PATH": os.environ["PATH"]}
    file: dict[str, str] = {}
    for where, settings in ((addresses_in, addresses), (tls_in, pair)):
        if where in ("environment", "both"):
            variables |= {f"STATEWISE_{name.upper()}": value for name, value in settings.items()}
        else:
            file |= settings
    if addresses_in == "both":
        file |= free_addresses()  # a variable overrides the file
    config = tmp_path / "server.toml"
    config.write_text("".join(f'{name} = "{value}"\n' for name, value in file.items()))
    options: list[str | Path] = ["--config", config] if file else []
    (tmp_path / "empty").mkdir()

    with serving(repository, options, variables):
        assert probe(variables) == 0
    assert probe(variables) == 1, "the server has ended"
    if places == "all in the environment":
        with serving(tmp_path / "empty", options, variables):
            assert probe(variables) == 1, "the server has no model"


def test_a_server_with_tls_is_asked_on_its_health_port(
    repository: Path, tmp_path: Path, certificate: dict[str, str]
) -> None:
    addresses = free_addresses()
    settings = {"listen": addresses["listen"], "health_listen": addresses["metrics_listen"], **certificate}
    variables = {"PATH": os.environ["PATH"]}
    variables |= {f"STATEWISE_{name.upper()}": value for name, value in settings.items()}
    (tmp_path / "empty").mkdir()
    with serving(repository, [], variables):
        assert probe(variables) == 0
    with serving(tmp_path / "empty", [], variables):
        assert probe(variables) == 1, "the server has no model"
