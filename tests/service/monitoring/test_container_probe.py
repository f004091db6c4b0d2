"""Runs the health check of the container image as Docker does, beside a real server."""

import asyncio
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
