"""Stops a SQLite store at every change of the disk: what it said is there, the rest whole or not at all."""

import errno
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.service.stores.blocks import STATE_BYTES, assert_at, checkpoint, group_of, moving, opening
from tests.service.stores.stopping_files import Stopped, StoppingFiles

from statewise.service.stores import Block, Name, StoreUnavailable
from statewise.service.stores.sqlite import Files, SqliteStore

Model = dict[int, int]
"""Position by birth; that of a named checkpoint by the negative birth."""

Change = tuple[Callable[[SqliteStore], object], Callable[[Model], Model]]


def _write(block: Block) -> Change:
    """Writes a block, which brings its rows to their positions and ends sessions."""
    rows = {int(row["birth"]): int(row["position"]) for group in block.groups for row in group.rows}
    rows |= {-one.birth: one.position for one in block.checkpoints}
    gone = {*block.ended, *(-birth for birth in block.ended), *(-birth for birth, _ in block.dropped)}

    def change(model: Model) -> Model:
        left = {birth: at for birth, at in model.items() if birth not in gone}
        return {birth: at for birth, at in (left | rows).items() if birth not in block.ended}

    return lambda store: store.write(block), change


RENAMED = Block([Name(8, "ada", "s2")], [group_of([8], 1)], [2])

PROGRAM: list[Change] = [
    _write(opening([1, 2, 3])),
    _write(moving([1, 3], 2)),
    _write(opening([4, 5])),
    (lambda store: store.tidy(seconds=5), lambda model: model),
    _write(replace(moving([1, 2, 5], 3), checkpoints=[checkpoint(2, position=3), checkpoint(5, position=3)])),
    _write(RENAMED),
    (lambda store: store.claim([4]), lambda model: model),
    _write(Block(ended=[3])),
    _write(
        replace(
            moving([5, 8], 4),
            checkpoints=[checkpoint(5, position=4), checkpoint(8, position=4)],
            dropped=[(5, "a")],
        )
    ),
    (lambda store: store.tidy(seconds=5), lambda model: model),
    (
        lambda store: store.expire(used_before_ms=2, limit=9),
        lambda model: {b: p for b, p in model.items() if p > 1},
    ),
    _write(moving([5], 6)),
]


def _open(path: Path, files: Files, *, now: float = 0) -> SqliteStore:
    return SqliteStore(path, log_bytes=9_000, segment_bytes=500, clock=lambda: now, files=files)


def _holds(store: SqliteStore, model: Model) -> bool:
    """Whether the store has these sessions at these positions, each with its own state, and no others."""
    sessions = store.read(range(1, 10))
    found = {int(one.row["birth"]): int(one.row["position"]) for one in sessions if one}
    kept = [one for session in sessions if session for one in session.checkpoints]
    if found | {-one.birth: one.position for one in kept} != model:
        return False
    for birth, position in found.items():
        assert_at(sessions[birth - 1], birth, position)
    assert kept == [checkpoint(one.birth, position=one.position) for one in kept]
    assert store.usage().sessions == len(found)
    assert store.usage().stored_bytes == len(found) * (64 + STATE_BYTES) + sum(one.size_bytes for one in kept)
    assert len(store.list_sessions(None, after=("", ""), limit=99)) == len(found)
    return True


@pytest.mark.parametrize("done_first", [False, True], ids=["before", "after"])
def test_a_store_that_stops_at_any_change_has_what_it_said(tmp_path: Path, done_first: bool) -> None:
    changes, finished = 0, False
    while not finished:
        path = tmp_path / str(changes) / "sessions.db"
        path.parent.mkdir()
        files = StoppingFiles(changes, done_first=done_first)
        before: Model = {}
        after: Model = {}
        try:
            store = _open(path, files)
            for act, change in PROGRAM:
                after = change(before)
                act(store)
                before = after
            finished = True
            store.close()
        except Stopped:
            pass
        files.end()
        reopened = _open(path, Files(), now=1_000)
        assert _holds(reopened, before) or _holds(reopened, after), changes
        reopened.write(Block([Name(9, "ada", "s9")], [group_of([9], 1)]))
        while reopened.tidy(seconds=5):
            pass
        assert not reopened.folding_due
        assert _holds(reopened, before | {9: 1}) or _holds(reopened, after | {9: 1}), changes
        reopened.close()
        changes += 1
    assert changes > 35


def test_what_was_never_committed_is_cut_off_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    store.write(opening([1]))
    store.close()
    [log] = tmp_path.glob("sessions.db-log-*")
    size = log.stat().st_size
    with log.open("ab") as file:
        file.write(b"half a record")
    orphan = tmp_path / "sessions.db-log-9-99"
    orphan.write_bytes(b"a record that no one knows")
    other = tmp_path / "sessions.db-log-of-someone"
    other.write_bytes(b"not ours")
    reopened = SqliteStore(path)
    assert log.stat().st_size == size
    assert not orphan.exists()
    assert other.exists()
    assert_at(reopened.read([1])[0], 1, 1)
    reopened.close()


def test_the_file_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    first = SqliteStore(path)
    first.write(opening([1]))
    [log] = tmp_path.glob("sessions.db-log-*")
    with log.open("ab") as file:
        file.write(b"a record under way")
    size = log.stat().st_size
    second = SqliteStore(path)
    assert log.stat().st_size == size
    first.write(moving([1], 2))
    assert_at(second.read([1])[0], 1, 2)
    first.close()
    second.close()


class FailingFiles(Files):
    """Fails at one kind of change, once, before or after it happened."""

    def __init__(self, change: str, *, after: bool) -> None:
        self._change = change
        self._after = after
        self.armed = False

    @contextmanager
    def _failing(self, change: str) -> Iterator[bool]:
        """Yields whether the change is made."""
        fails = self.armed and change == self._change
        yield not fails or self._after
        if fails:
            self.armed = False
            raise OSError(errno.EIO, "Input/output error")

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commits, perhaps with an error."""
        with self._failing("commit") as happens:
            if happens:
                super().commit(connection)

    def append(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> None:
        """Appends, perhaps with an error."""
        with self._failing("append") as happens:
            if happens:
                super().append(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        """Syncs, perhaps with an error."""
        with self._failing("sync") as happens:
            if happens:
                super().sync(descriptor)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", ["append", "sync", "commit"])
def test_a_call_that_failed_may_be_repeated(tmp_path: Path, change: str, after: bool) -> None:
    files = FailingFiles(change, after=after)
    store, other = _open(tmp_path / "sessions.db", files), _open(tmp_path / "sessions.db", Files())
    model: Model = {}
    for block in (opening([1, 2]), moving([1], 2), RENAMED, Block(ended=[8]), moving([1], 3)):
        if block.groups or change == "commit":
            files.armed = True
            with pytest.raises(StoreUnavailable, match="Input/output error"):
                store.write(block)
            happened = change == "commit" and after
            assert _holds(other, _write(block)[1](model) if happened else model)
        assert list(store.write(block).moved) == []
        model = _write(block)[1](model)
        assert _holds(other, model)
        assert _holds(store, model)
    store.write(moving([1], 4))
    assert _holds(other, {1: 4})
    store.close()
    other.close()
