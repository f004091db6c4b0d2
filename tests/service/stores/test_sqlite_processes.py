"""Kills processes that write to one SQLite store, at random moments."""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.service.stores.blocks import assert_at

from statewise.service.stores.sqlite import SqliteStore

ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import sys
from pathlib import Path
from statewise.service.stores.sqlite import SqliteStore
from tests.service.stores.blocks import moving, opening

path, first = Path(sys.argv[1]), int(sys.argv[2])
store = SqliteStore(path, log_bytes=100_000, segment_bytes=20_000, busy_s=60)
births = list(range(first, first + 20))
if not any(store.find("ada", [f"s{birth}" for birth in births])):
    store.write(opening(births))
claimed = store.claim(births)
epoch = max(int(session.row["epoch"]) for session in claimed)
position = max(int(session.row["position"]) for session in claimed)
while True:
    position += 1
    assert not store.write(moving(births[: position % 20 + 1], position, epoch=epoch)).moved
    print(position, flush=True)
    if store.folding_due:
        store.tidy(seconds=0)
"""


def _newest(births: list[int], done: int) -> dict[int, int]:
    """Positions of births after a writer's positions from 2 to `done`."""
    newest = dict.fromkeys(births, 1)
    for position in range(2, done + 1):
        newest.update(dict.fromkeys(births[: position % 20 + 1], position))
    return newest


@pytest.mark.long
def test_writers_that_are_killed_lose_nothing_that_was_written() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        for _ in range(4):
            writers = [_start(path, first) for first in (1, 101)]
            said = {}
            for first, writer in zip((1, 101), writers, strict=True):
                assert writer.stdout is not None
                for _ in range(choose.randrange(5, 30)):
                    said[first] = int(writer.stdout.readline())
            for first, writer in zip((1, 101), writers, strict=True):
                writer.kill()
                rest, _ = writer.communicate()
                said[first] = max([said[first], *map(int, rest.split("\n")[:-1])])
            store = SqliteStore(path)
            for first, done in said.items():
                births = list(range(first, first + 20))
                sessions = store.read(births)
                reached = max(int(session.row["position"]) for session in sessions if session)
                assert reached in (done, done + 1)
                for birth, position in _newest(births, reached).items():
                    assert_at(sessions[birth - first], birth, position)
            assert store.usage().sessions == 40
            store.close()


def _start(path: Path, first: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
