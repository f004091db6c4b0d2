"""Runs the health check of the container image as Docker does, beside a real server."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
import trustme
from tests.helpers.metrics_server import serve_with_metrics

PROBE = Path(__file__).parents[3] / "docker/probe.py"


async def probe(address: str, metrics: str, **environment: str) -> int:
    """Runs the script with the variables that the image and the compose file set; gives its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        PROBE,
        env={"STATEWISE_LISTEN": address, "STATEWISE_METRICS_LISTEN": metrics, **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Path]:
    """Settings of a server with TLS."""
    made = trustme.CA().issue_cert("server.example.org")
    files = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.key"}
    made.cert_chain_pems[0].write_to_path(files["tls_certificate"])
    made.private_key_pem.write_to_path(files["tls_key"])
    return files


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_healthy_is_who_takes_work(
    repository: Path, tmp_path: Path, certificate: dict[str, Path], tls: bool
) -> None:
    settings = certificate if tls else {}
    environment = {f"STATEWISE_{name.upper()}": str(path) for name, path in settings.items()}
    async with serve_with_metrics(repository, **settings) as (address, metrics):
        assert await probe(address, metrics, **environment) == 0
    assert await probe(address, metrics, **environment) == 1
    (tmp_path / "empty").mkdir()
    async with serve_with_metrics(tmp_path / "empty", **settings) as (address, metrics):
        assert await probe(address, metrics, **environment) == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_probe_reads_the_configuration_file_of_the_server(
    repository: Path, tmp_path: Path, certificate: dict[str, Path], tls: bool
) -> None:
    """Addresses and TLS stand in the file alone."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [free.getsockname()[1] for free in (one, other)]
    lines = [f'listen = "127.0.0.1:{ports[0]}"', f'metrics_listen = "127.0.0.1:{ports[1]}"']
    lines += [f'{name} = "{path}"' for name, path in certificate.items()] if tls else []
    config = tmp_path / "server.toml"
    config.write_text("\n".join(lines))
    environment = {"STATEWISE_REPOSITORY": str(repository), "PATH": os.environ["PATH"]}
    command = Path(sys.executable).parent / "statewise"
    server = await asyncio.create_subprocess_exec(
        command, "serve", "--config", config, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert (await server.stdout.readline()).startswith(b"listening on")
        asked = await asyncio.create_subprocess_exec(sys.executable, PROBE, env=environment)
        assert await asked.wait() == 0
    finally:
        server.terminate()
        await server.communicate()
