"""Runs the store's Lua scripts on the server. Each runs there alone, whole, and by one call."""

import hashlib
import re
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


COMMAND = re.compile(rb"\bcall\('([A-Z]+)'")
PERMITTED = b"""
-- A user who may not run one of the commands would otherwise stop a script in the middle of its changes.
for _, command in ipairs({ %b }) do
  if not redis.acl_check_cmd(command, prefix .. 'any') then
    return redis.error_reply('NOPERM no permission for ' .. command .. ' with keys ' .. prefix .. '*')
  end
end

"""
"""Begins every script that writes; names the commands of all scripts, so that a user may run all or none."""


class Scripts:
    """The scripts of one store, known to the server by their digests."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix.encode()
        self._sources: dict[str, bytes] = {}
        self._digests: dict[str, str] = {}
        folder = resources.files("statewise.service.stores.redis") / "scripts"
        common = (folder / "common.lua").read_bytes()
        bodies = {name: (folder / f"{name}.lua").read_bytes() for name in FLAGS}
        commands = sorted({*COMMAND.findall(common), *COMMAND.findall(b"".join(bodies.values()))})
        permitted = PERMITTED % b", ".join(b"'%b'" % command for command in commands)
        for name, flags in FLAGS.items():
            checked = b"" if "no-writes" in flags else permitted
            source = f"#!lua flags={flags}\n".encode() + common + checked + bodies[name]
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
