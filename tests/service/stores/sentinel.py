"""Starts a Sentinel that watches one primary."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError


def answers(client: Redis) -> bool:
    """Whether the server is there."""
    try:
        return bool(client.ping())
    except RedisError:
        return False


@contextmanager
def sentinel(port: int, primary_port: int, *lines: str, client: Redis | None = None) -> Iterator[Redis]:
    """A Sentinel that calls the primary `main` and gives it up quickly.

    Args:
        port: Where it listens on loopback without TLS; 0: nowhere.
        primary_port: Of the primary.
        lines: Further lines of its configuration.
        client: Reaches it; needed where it does not listen without TLS.
    """
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        file = Path(folder, "sentinel.conf")
        watching = [
            f"sentinel monitor main 127.0.0.1 {primary_port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 2000",
        ]
        listening = [f"port {port}", "bind 127.0.0.1", f"dir {folder}"]
        file.write_text("\n".join([*listening, *lines, *watching, ""]))
        child = subprocess.Popen(
            ["redis-server", str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with client or Redis(port=port) as asked:
                while not answers(asked):
                    assert child.poll() is None
                yield asked
        finally:
            child.kill()
            child.wait()
