"""Runs servers that tests stop and start again."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from statewise.service.testing import server_in_thread


class RestartableServer:
    """A server that is stopped, and started again on the same port: it has what its store has, if any."""

    def __init__(self, repository: Path, **settings: Any) -> None:
        self._repository = repository
        self._settings = settings
        self._running = ExitStack()
        self.address = ""

    def __enter__(self) -> Self:
        self.address = self._running.enter_context(server_in_thread(self._repository, **self._settings))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def restart(self) -> None:
        """Stops the server and starts another one in its place."""
        self.stop()
        server = server_in_thread(self._repository, listen=self.address, **self._settings)
        self._running.enter_context(server)

    def stop(self) -> None:
        """Stops the server."""
        self._running.close()
