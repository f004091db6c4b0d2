"""Kills programs and their server at once, and starts both anew: no output that a program saw is undone.

CHAOS_PROCESSES, CHAOS_REQUESTS, CHAOS_KILLS and CHAOS_SEED make it longer, or repeat it.
"""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import numpy as np
import pytest
from tests.chaos.recorded_kinds import Kind
from tests.chaos.recording import Line, names_and_kinds, read_lines
from tests.helpers.server_process import ServerProcess, ServerProcesses
from tests.service.stores.redis_server import RedisServer

from statewise.client import Client

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PROCESSES = int(os.environ.get("CHAOS_PROCESSES", "2"))
REQUESTS = int(os.environ.get("CHAOS_REQUESTS", "60"))
KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4))
PROGRAMS = {str(number): SEED + 1000 * number for number in range(PROCESSES)}
"""Their seeds by name."""


class Programs:
    """Processes of `recording`, which write to one folder."""

    def __init__(self, address: str, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.chaos.recording", address, str(folder)]
        self._children = [
            subprocess.Popen([*command, name, str(seed), str(REQUESTS)], cwd=ROOT, stdout=subprocess.PIPE)
            for name, seed in PROGRAMS.items()
        ]

    def wait(self, outputs: int) -> None:
        """Waits until they have seen so many outputs, or have ended."""
        with DefaultSelector() as selector:
            for child in self._children:
                assert child.stdout is not None
                selector.register(child.stdout, EVENT_READ)
            while outputs > 0 and selector.get_map():
                for key, _ in selector.select():
                    dots = os.read(key.fd, 1 << 16)
                    outputs -= len(dots)
                    if not dots:
                        selector.unregister(key.fileobj)

    def kill_with(self, server: ServerProcess, random: np.random.Generator) -> None:
        """Ends all of them and the server as a crash does, in any order."""
        processes: list[subprocess.Popen[Any]] = [server.child, *self._children]
        for place in random.permutation(len(processes)):
            processes[place].kill()
        for process in processes:
            process.communicate()

    def finish(self) -> None:
        """Waits until all of them have come to their end."""
        for child in self._children:
            child.communicate()
            assert child.returncode == 0


def check_that_nothing_is_undone(servers: ServerProcesses, folder: Path, store: str) -> None:
    """Kills programs and their server, again and again, and looks at what they have seen in the end."""
    print(f"CHAOS_SEED={SEED}")
    random = np.random.default_rng(SEED)
    server = servers.start(store=store, durability="reply")
    plan = [kind for name, seed in PROGRAMS.items() for kind in names_and_kinds(name, seed, REQUESTS)]
    for _ in range(KILLS):
        programs = Programs(server.address, folder)
        programs.wait(int(random.integers(1, len(plan) * REQUESTS // (KILLS + 1))))
        programs.kill_with(server, random)
        server = servers.start(listen=server.address, store=store, durability="reply")
    Programs(server.address, folder).finish()
    server.kill()
    server = servers.start(store=store, durability="reply")
    with Client(server.address) as client:
        for _, name, kind in plan:
            lines = read_lines(folder / name)
            print(f"{name}: begun {sum(line.what == 'begun' for line in lines)} times")
            assert kind.positions(kind.resume(client, name)) == lines[-1].positions
            check_positions(name, kind, lines)
            check_outputs(name, kind, lines, client)


def check_positions(name: str, kind: Kind, lines: list[Line]) -> None:
    """Asserts that a session resumed where its program had seen it, or one request further."""
    stands = np.array(lines[0].positions)
    request = 0
    for before, line in pairwise(lines):
        positions, earlier = np.array(line.positions), np.array(before.positions)
        further = stands + kind.moves(request, stands)
        where = (name, request, before, line)
        if before.what == "undoing":
            assert line.what in ("undone", "begun"), where
            undone = (positions == earlier).all()
            assert undone or (line.what == "begun" and (positions == stands).all()), where
        elif line.what == "begun":
            assert ((positions == stands) | (positions == further)).all(), where
        elif line.what == "seen":
            assert (positions == further).all(), where
        request += line.what == "seen"
        if line.what != "undoing":
            stands = positions


def check_outputs(name: str, kind: Kind, lines: list[Line], client: Client) -> None:
    """Asserts that a program saw what a session gives that nothing disturbs, bit for bit."""
    begun = np.array(lines[0].positions)
    most = np.max([line.positions for line in lines], axis=0) - begun
    whole = [kind.outputs(client, row, int(steps)) for row, steps in enumerate(most)]
    for before, line in pairwise(lines):
        if line.what == "seen":
            ends = zip(np.array(before.positions) - begun, np.array(line.positions) - begun, strict=True)
            parts = (whole[row][begin:end] for row, (begin, end) in enumerate(ends))
            assert line.output == b"".join(b"".join(part) for part in parts), (name, before.positions)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where programs write down what they see."""
    made = tmp_path / "seen"
    made.mkdir()
    return made


def test_what_a_program_saw_is_in_sqlite(servers: ServerProcesses, tmp_path: Path, folder: Path) -> None:
    check_that_nothing_is_undone(servers, folder, f"sqlite:{tmp_path / 'sessions.db'}")


def test_what_a_program_saw_is_in_redis(servers: ServerProcesses, redis: RedisServer, folder: Path) -> None:
    check_that_nothing_is_undone(servers, folder, redis.url)
