"""Brings the compose files under test up on an engine, and looks at their containers.

The published ports are free ports of the host, set by the variables that users have for them.
"""

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.docker.engine import Engine

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "docker/compose.yaml", ROOT / "tests/docker/override.yaml")
REPLICAS = 3
COMPOSE = "docker compose " + " ".join(f"-f {file}" for file in FILES)


def moment(stamp: str) -> datetime:
    """Reads one of the engine's times, which have nanoseconds and are UTC."""
    return datetime.fromisoformat(f"{stamp.rstrip('Z')[:26]}+00:00")


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Container:
    """One container."""

    engine: Engine
    name: str

    @property
    def state(self) -> dict[str, Any]:
        """The state from `docker inspect`: Pid, Status, ExitCode, Health and others."""
        return dict(self.engine.inspect(self.name)["State"])

    @property
    def restarts(self) -> int:
        """The number of times that the engine has restarted the container."""
        return int(self.engine.inspect(self.name)["RestartCount"])

    def address(self, port: int = 50051) -> str:
        """The host's address of a published port: HOST:PORT."""
        (published,) = self.engine.inspect(self.name)["NetworkSettings"]["Ports"][f"{port}/tcp"]
        return f"{published['HostIp']}:{published['HostPort']}"

    def logged(self, text: str) -> datetime:
        """The time of the last log line that holds this text."""
        lines = self.engine.docker("logs", "--timestamps", self.name).splitlines()
        stamps = [line.split()[0] for line in lines if text in line]
        return moment(stamps[-1])

    def kill(self) -> None:
        """Kills the container's process as a crash would; `docker kill` counts as a manual stop."""
        os.kill(self.state["Pid"], signal.SIGKILL)

    def execute(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command in the container."""
        return subprocess.run(
            ["docker", "exec", self.name, *command],
            env=self.engine.environment, capture_output=True, text=True,
        )  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """The project of the compose files."""

    engine: Engine
    balanced_port: int = field(default_factory=free_port)
    prometheus_port: int = field(default_factory=free_port)
    grafana_port: int = field(default_factory=free_port)
    server_port: int = field(default_factory=free_port)

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables that the compose file knows."""
        return {
            **self.engine.environment,
            "COMPOSE": COMPOSE,
            "STATEWISE_SNAPSHOT_KEY": secrets.token_hex(),
            "STATEWISE_PORT": str(self.server_port),
            "STATEWISE_BALANCED_PORT": str(self.balanced_port),
            "STATEWISE_PROMETHEUS_PORT": str(self.prometheus_port),
            "STATEWISE_GRAFANA_PORT": str(self.grafana_port),
        }

    def compose(self, *arguments: str, **variables: str) -> str:
        """Runs Compose; gives its output.

        Raises:
            AssertionError: Compose failed; the message holds its output.
        """
        done = subprocess.run(
            [*COMPOSE.split(), *arguments],
            env={**self.environment, **variables}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"compose {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self, *profiles: str, servers: int = 1) -> None:
        """Brings the project up, and waits until all services are healthy."""
        chosen = [f"--profile={profile}" for profile in profiles]
        variables = {"STATEWISE_PORT": ""} if servers > 1 else {}
        self.compose(*chosen, "up", "--detach", "--wait", f"--scale=server={servers}", **variables)

    def down(self) -> None:
        """Removes all containers, networks and volumes."""
        self.compose("--profile=balanced", "--profile=monitoring", "down", "--volumes", "--timeout=5")

    def containers(self, service: str) -> Sequence[Container]:
        """The containers of a service, running or not."""
        every = ["--profile=balanced", "--profile=monitoring"]
        names = self.compose(*every, "ps", "--all", "--format={{.Name}}", service).split()
        return [Container(self.engine, name) for name in sorted(names)]
