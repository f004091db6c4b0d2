"""Starts a Redis server with an append-only file, for benchmarks of the store."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry


@dataclass(frozen=True)
class RedisServer:
    """A running Redis server, on the core of the process that started it."""

    url: str
    pid: int
    client: Redis
    folder: Path

    def cpu_s(self) -> float:
        """Returns the CPU seconds that it has used."""
        told = self.client.info("cpu")
        return float(told["used_cpu_user"] + told["used_cpu_sys"])

    def memory_bytes(self) -> int:
        """Returns the bytes of its data in memory, with its overhead."""
        return int(self.client.info("memory")["used_memory"])

    def disk_bytes(self) -> int:
        """Rewrites the append-only file, and returns its size."""
        self.client.bgrewriteaof()
        while True:
            told = self.client.info("persistence")
            if not told["aof_rewrite_in_progress"] and not told["aof_rewrite_scheduled"]:
                return sum(one.stat().st_size for one in (self.folder / "appendonlydir").iterdir())


@contextmanager
def redis_server(folder: Path, *, appendfsync: str) -> Iterator[RedisServer | None]:
    """Starts a server that keeps its data in a folder, and ends it; None: redis-server is not installed."""
    command = shutil.which("redis-server")
    if command is None:
        yield None
        return
    # A unix socket's path has at most 107 bytes, and a folder for stores may be anywhere.
    with TemporaryDirectory(prefix="redis-") as place:
        socket = Path(place) / "redis.sock"
        persistent = ["--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""]
        places = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
        process = subprocess.Popen([command, *places, *persistent], stdout=subprocess.DEVNULL)
        try:
            retry = Retry(ExponentialBackoff(cap=0.1, base=0.01), 100)
            client = Redis(unix_socket_path=str(socket), retry=retry, retry_on_error=[ConnectionError])
            client.ping()
            yield RedisServer(f"unix://{socket}", process.pid, client, folder)
            client.close()
        finally:
            process.terminate()
            process.wait()
