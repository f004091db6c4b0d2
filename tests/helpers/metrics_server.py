"""Serves a repository with metrics, and asks the server's HTTP side."""

import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from statewise.service import Settings
from statewise.service.server import Server


@asynccontextmanager
async def serve_with_metrics(repository: Path, **settings: Any) -> AsyncIterator[tuple[str, str]]:
    """Serves a repository; gives the server's address and that of its HTTP side."""
    chosen = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "grace_s": 5.0, **settings}
    server = Server(Settings(repository=repository, **chosen))
    try:
        address = await server.start()
        await server.wait_until_loaded()
        yield address, server.metrics_address
    finally:
        await server.stop()


def http_get(address: str, path: str) -> tuple[int, str]:
    """Status and body of an HTTP request; blocks."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
