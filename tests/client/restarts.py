"""Runs servers that tests stop and start again."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from statewise.service.testing import server_in_thread


class RestartableServer:
    """A server that can be stopped, and started again on the same port with no memory of before."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._running = ExitStack()
        self.address = ""

    def __enter__(self) -> Self:
        self.address = self._running.enter_context(server_in_thread(self._repository))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def restart(self) -> None:
        """Stops the server and starts another one in its place."""
        self.stop()
        self._running.enter_context(server_in_thread(self._repository, listen=self.address))

    def stop(self) -> None:
        """Stops the server."""
        self._running.close()
