"""Runs the store's Lua scripts on the server. Each runs there alone, whole, and by one call."""

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from statewise.service.stores.redis._command_packer import Argument

FLAGS = {
    "claim": "allow-oom,no-cluster",
    "end": "allow-oom,no-cluster",
    "expire": "allow-oom,no-cluster",
    "find": "no-writes,no-cluster",
    "forget": "allow-oom,no-cluster",
    "list": "no-writes,no-cluster",
    "open": "allow-oom,no-cluster",
    "read": "no-writes,no-cluster",
    "write": "no-cluster",
}
"""What the server is told of each script. Those with allow-oom store nothing new, or free memory."""


class Scripts:
    """The scripts of one store, known to the server by their digests."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix.encode()
        self._sources: dict[str, bytes] = {}
        self._digests: dict[str, str] = {}
        folder = resources.files("statewise.service.stores.redis") / "scripts"
        common = (folder / "common.lua").read_bytes()
        for name, flags in FLAGS.items():
            source = f"#!lua flags={flags}\n".encode() + common + (folder / f"{name}.lua").read_bytes()
            self._sources[name] = source
            self._digests[name] = hashlib.sha1(source, usedforsecurity=False).hexdigest()

    def run(self, name: str, *arguments: Argument) -> Any:
        """Runs a script, loading it where the server has forgotten it.

        Raises:
            redis.RedisError: It failed.
        """
        call = ("EVALSHA", self._digests[name], 1, self._prefix, *arguments)
        execute: Callable[..., Any] = self._client.execute_command
        try:
            return execute(*call)
        except NoScriptError:
            execute("SCRIPT LOAD", self._sources[name])
            return execute(*call)
