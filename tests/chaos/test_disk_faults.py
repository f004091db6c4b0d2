"""Takes the disk of a SQLite store away from a server, and gives it back: nothing that was stored is lost.

CHAOS_SESSIONS, CHAOS_AWAY_S and CHAOS_SEED make it longer, or repeat it.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.chaos.programs import Progress
from tests.chaos.runs import RECONNECT_S, assert_same, run_programs
from tests.chaos.test_kills import PROGRAMS, SEED
from tests.chaos.watched import Watched
from tests.client.samples import sequences
from tests.helpers.disks import filled, immutable, mounted
from tests.helpers.server_process import ServerProcesses

from statewise.client import Client

pytestmark = pytest.mark.long

X = sequences(3_000, seed=6)[0]
AWAY_S = float(os.environ.get("CHAOS_AWAY_S", "0.3"))
"""The server's own bound on the wait for a lock."""


def settings(folder: Path) -> dict[str, Any]:
    """Settings of a server whose store is in a folder."""
    return {"store": f"sqlite:{folder / 'sessions.db'}", "checkpoint_s": 0.03, "store_answer_s": AWAY_S}


@dataclass(frozen=True)
class Fault:
    """What is done to a disk.

    Attributes:
        begin: Does it to a folder, and undoes it at the end of the context.
        says: What the log then names as the reason.
        own_disk: Whether the folder is a disk of its own.
        exact: Whether nothing at all can be written; on a full disk a little may find room.
    """

    begin: Callable[[Path], AbstractContextManager[None]]
    says: str
    own_disk: bool = False
    exact: bool = True

    def folder(self, folder: Path, until: ExitStack) -> Path:
        """Makes the folder."""
        if self.own_disk:
            return until.enter_context(mounted(folder, "size=32m"))
        folder.mkdir()
        return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of the database, as a backup or an operator's shell may do."""
    with closing(sqlite3.connect(folder / "sessions.db", isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


FAULTS = {
    "full": Fault(filled, r"No space left|the disk is full", own_disk=True, exact=False),
    "read-only": Fault(immutable, r"Operation not permitted|cannot be (written|opened)|writing failed"),
    "locked": Fault(locked, "another process has held the lock"),
}


@pytest.mark.parametrize(
    ("own", "durability"), [("full", "interval"), ("read-only", "reply")], ids=["full", "read-only"]
)
def test_programs_go_on_when_the_disk_is_back(
    servers: ServerProcesses, tmp_path: Path, own: str, durability: str
) -> None:
    print(f"CHAOS_SEED={SEED}")
    load: dict[str, Any] = {"count": PROGRAMS, "seed": SEED}
    random = np.random.default_rng(SEED)
    faults = [FAULTS[own], FAULTS["locked"]]
    with ExitStack() as until:
        folder = faults[0].folder(tmp_path / "disk", until)
        server = Watched(servers, tmp_path / "log", **settings(folder), durability=durability)

        def disturb(progress: Progress) -> None:
            for fault in faults:
                progress.wait_for_more(int(random.integers(PROGRAMS, 10 * PROGRAMS)))
                with fault.begin(folder):
                    server.wait_for_failures(2)
                    if durability == "interval":  # sessions in memory go on
                        progress.wait_for_more(2 * PROGRAMS)
                server.wait_until_back()
            progress.wait_for_more(PROGRAMS)

        actual = run_programs(server.address, **load, requests=None, disturb=disturb)
        assert server.process.stop() == 0
        calm = servers.start()
        assert_same(actual, run_programs(calm.address, **load, requests=actual))
        server.assert_log("|".join(fault.says for fault in faults), outages=len(faults))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_durable_position_told_is_there_after_a_kill(
    servers: ServerProcesses, tmp_path: Path, fault: str
) -> None:
    with ExitStack() as until:
        disk = FAULTS[fault]
        folder = disk.folder(tmp_path / "disk", until)
        chosen = settings(folder)
        server = Watched(servers, tmp_path / "log", **chosen)
        client = until.enter_context(Client(server.address, reconnect_s=RECONNECT_S))
        whole = client.predict("steps", X)
        sessions = [client.session("steps", id=name) for name in ("goes on", "starts anew")]

        def step() -> list[int]:
            for session in sessions:
                session.step(X[session.position])
            return [session.durable_position for session in sessions]

        while min(step()) < 3:
            pass
        with disk.begin(folder):
            for _ in range(5):
                told = step()
                server.wait_for_failures(1)
            if disk.exact:
                assert step() == told
            server.process.kill()
        server.assert_log(disk.says, outages=1)
        servers.start(**chosen, listen=server.address)
        going_on = sessions[0].position
        np.testing.assert_array_equal(sessions[0].step(X[going_on:]), whole[going_on:])
        anew = until.enter_context(Client(server.address)).resume("starts anew")
        kept = anew.position
        assert told[1] <= kept
        np.testing.assert_array_equal(anew.step(X[kept:]), whole[kept:])


def test_a_reply_waits_for_the_disk(servers: ServerProcesses, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    chosen = {**settings(folder), "durability": "reply"}
    server = Watched(servers, tmp_path / "log", **chosen)
    with Client(server.address, reconnect_s=RECONNECT_S) as client, ThreadPoolExecutor(2) as pool:
        whole = client.predict("steps", X)
        kept, killed = (client.session("steps", id=name) for name in ("kept", "killed"))
        with immutable(folder):
            first = pool.submit(kept.step, X[:5])
            server.wait_for_failures(4)
            assert not first.done()
        np.testing.assert_array_equal(first.result(), whole[:5])
        assert kept.durable_position == 5
        with immutable(folder):
            second = pool.submit(killed.step, X[:5])
            server.wait_for_failures(4)
            assert not second.done()
            server.process.kill()
        servers.start(**chosen, listen=server.address)
        np.testing.assert_array_equal(second.result(), whole[:5])
        np.testing.assert_array_equal(kept.step(X[5:]), whole[5:])
