"""Describes a server that wants tokens, and the owners who have one."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.caller import Caller, connect


@dataclass(frozen=True)
class CallersFile:
    """A callers file, and a token for each owner that it names."""

    path: Path
    tokens: dict[str, str]


@dataclass(frozen=True)
class GuardedServer:
    """The address of a server that wants tokens."""

    address: str
    callers: CallersFile

    def connect(self, owner: str) -> AbstractAsyncContextManager[Caller]:
        """Connects one of the owners."""
        return connect(self.address, token=self.callers.tokens[owner])
