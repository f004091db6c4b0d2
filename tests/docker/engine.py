"""Starts a Docker engine for the tests, stops it after them, and checks that it leaves nothing behind.

The engine is not the one that a machine may be running already. Its networks have no way out and do not
change the host: no bridge, no rules of the packet filter, no forwarding.
"""

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("docker.io", "iptables", "mmdebstrap", "tini")
_PROGRAMS = ("dockerd", "docker", "containerd", "runc", "iptables", "mmdebstrap", "tini-static", "setpriv")
_START_S = 30.0
_STOP_S = 120.0


class NoEngineError(Exception):
    """No engine can run here. The message says why."""


def eventually(condition: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """Asks until the answer is true, and gives the answer: for changes that other processes do not announce.

    Raises:
        AssertionError: The answer was not true in time; the message names `what` and the last answer.
    """
    end = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}; last answer: {answer!r}"
        time.sleep(0.1)
    return answer


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which Docker's command, and Compose below `config`, find this engine."""
        return {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.folder / 'socket'}",
            "DOCKER_CONFIG": str(self.folder / "config"),
        }

    def docker(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs Docker's command; gives its output and its standard error.

        Raises:
            AssertionError: The command failed; the message holds its output.
        """
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}"
        return done.stdout

    def inspect(self, name: str) -> dict[str, Any]:
        """The engine's description of a container or an image."""
        (found,) = json.loads(self.docker("inspect", name))
        return dict(found)


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """Starts an engine and runs a container on it.

    Args:
        folder: Holds all the engine's files; removed afterwards. The path is short, as a socket's must be.

    Raises:
        NoEngineError: The engine does not start, or cannot run a container.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        raise NoEngineError("an engine needs root")
    if missing:
        raise NoEngineError(
            f"not installed: {', '.join(missing)}; they are in Debian's {', '.join(PACKAGES)}"
        )
    before = _traces(folder)
    folder.mkdir()
    (folder / "config").mkdir()
    engine = Engine(folder)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                # If the tests are killed, the kernel sends the engine SIGTERM.
                "setpriv", "--pdeathsig", "TERM",
                "dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec",
                "--pidfile", folder / "pid", "--host", f"unix://{folder / 'socket'}",
                "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
                "--bridge=none", "--mtu", "1400",
            ],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        _try_out(engine, process)
        yield engine
    finally:
        _stop(process)
        left = _traces(folder) - before
        shutil.rmtree(folder)
        assert not left, f"left behind by the engine: {sorted(left)}"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _try_out(engine: Engine, process: "subprocess.Popen[bytes]") -> None:
    """An engine that answers may still be unable to run anything."""
    log = engine.folder / "log"

    def answers() -> bool:
        asked = subprocess.run(["docker", "version"], env=engine.environment, capture_output=True)
        return asked.returncode == 0 or process.poll() is not None

    try:
        eventually(answers, within_s=_START_S, what="an answer of the engine")
        if process.poll() is not None:
            raise NoEngineError(f"the engine ended with {process.returncode}: {_end_of(log)}")
        image = engine.folder / "probe.tar"
        with tarfile.open(image, "w") as tar:
            tar.add(str(shutil.which("tini-static")), "tini")
        engine.docker("import", str(image), "probe")
        engine.docker("network", "create", "probe")
        engine.docker("run", "--rm", "--network", "probe", "--memory", "64m", "probe", "/tini", "--version")
        engine.docker("network", "rm", "probe")
        engine.docker("image", "rm", "probe")
    except AssertionError as error:
        raise NoEngineError(f"{error}\n{_end_of(log)}") from None


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-5:])


def _traces(folder: Path) -> set[str]:
    """Mounts and processes of an engine in this folder, and all network interfaces."""
    mounts = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    processes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command:
            processes.add(f"process {process.name}: {command}")
    interfaces = {f"interface {path.name}" for path in Path("/sys/class/net").iterdir()}
    return {f"mount {mount}" for mount in mounts if mount.startswith(str(folder))} | processes | interfaces
