"""Starts redis-server in a temporary folder, on a unix socket, with an append-only file."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError
from redis.retry import Retry

from statewise.service.stores import Store
from statewise.service.stores.redis import RedisOptions, RedisStore


class RedisServer:
    """A server that a test may stop, kill and start again on what it has kept."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = shutil.which("redis-server")
        if command is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        # With `everysec` the server may acknowledge before it writes, while it syncs what came before.
        persistent = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        places = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)]
        self._command = [command, *places, *persistent, *arguments]
        self._log = folder / "redis.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(self._command, stdout=log, stderr=log)
        while not self._answers():
            if self._child.poll() is not None:
                pytest.fail(self._log.read_text())

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except ConnectionError:
            return False

    def kill(self) -> None:
        """Ends the server as a crash does."""
        assert self._child is not None
        self._child.kill()
        self._child.wait()

    def restart(self) -> None:
        """Kills the server and starts it on its append-only file."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stops the process: it keeps its connections and answers nothing."""
        assert self._child is not None
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets the process go on, if it is there."""
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """A client of the test's own."""
        return Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))

    def options(self, **changes: object) -> RedisOptions:
        """Options that reach the server."""
        return RedisOptions(**{"url": self.url, **changes})  # type: ignore[arg-type]


@contextmanager
def redis_server(*arguments: str) -> Iterator[RedisServer]:
    """A running server; `arguments` are settings of redis-server."""
    # A unix socket's path has at most 107 bytes; folders of tests are longer.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), *arguments)
        server.start()
        try:
            yield server
        finally:
            server.resume()
            server.kill()


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def redis_place(folder: Path) -> Iterator[Callable[[], Store]]:
    """Opens stores on one server, which knows them by a prefix with the folder's name."""
    with redis_server() as server:
        opened: list[RedisStore] = []

        def open_store() -> Store:
            opened.append(RedisStore.open(server.options(prefix=f"{folder.name}:")))
            return opened[-1]

        try:
            yield open_store
        finally:
            for store in opened:
                store.close()
