"""What a SQLite store says of damaged, missing, full, locked, forbidden and foreign files."""

import os
import sqlite3
import struct
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from tests.helpers.disks import filled, make_read_only, mounted
from tests.service.stores.blocks import assert_at, checkpoint, group_of, moving, opening

from statewise.service import Settings
from statewise.service.dataplane.durability import StoreThread
from statewise.service.stores import (
    Block,
    Name,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    StoreVersionError,
)
from statewise.service.stores.sqlite import SqliteStore


def _log(folder: Path, number: int = 0) -> Path:
    return sorted(folder.glob("sessions.db-log-*"))[number]


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        file.write(data)


def _two_records(folder: Path) -> SqliteStore:
    """Sessions 1 and 2 in a file of the log, then 3 in another; nothing else."""
    store = SqliteStore(folder / "sessions.db", segment_bytes=1, log_bytes=0)
    store.write(opening([1, 2]))
    store.write(opening([3]))
    return store


def test_a_damaged_state_costs_its_session_and_no_other(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    _overwrite(_log(tmp_path), -1, b"\x55" if _log(tmp_path).read_bytes()[-1] != 0x55 else b"\xaa")
    for call in (store.read, store.claim):
        with pytest.raises(StoreDamaged, match=r"sessions\.db-log-1-1, record at offset 0") as raised:
            call([1, 2, 3])
        assert raised.value.births == (2,)
        sessions = call([1, 3])
        assert_at(sessions[0], 1, 1)
        assert_at(sessions[1], 3, 1)
    store.close()


def test_a_damaged_session_stays_damaged_after_folding_until_it_is_written_again(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    _overwrite(_log(tmp_path), -10, bytes(10))
    while store.tidy(seconds=1):
        pass
    with pytest.raises(StoreDamaged, match=r"sessions\.db-log-1-1") as raised:
        store.read([1, 2, 3])
    assert raised.value.births == (2,)
    assert [bool(one.damage) for one in store.list_sessions("ada", after=("", ""), limit=9)] == [
        False,
        True,
        False,
    ]
    store.write(moving([2], 7))
    while store.tidy(seconds=1):
        pass
    assert_at(store.read([2])[0], 2, 7)
    store.close()


@pytest.mark.parametrize("offset", [0, 10, 40, 60])
def test_a_damaged_header_or_row_is_noticed(tmp_path: Path, offset: int) -> None:
    store = _two_records(tmp_path)
    _overwrite(_log(tmp_path), offset, b"\xf5\x0f\xf5")
    with pytest.raises(StoreDamaged):
        store.read([1])
    [damaged, *_, whole] = store.list_sessions("ada", after=("", ""), limit=9)
    assert damaged.damage
    assert int(damaged.row["birth"]) == 1
    assert whole.damage is None
    assert_at(store.read([3])[0], 3, 1)
    store.close()


def test_an_older_state_is_never_loaded_for_a_damaged_one(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    while store.tidy(seconds=1):
        pass
    store.write(moving([1], 2))
    for damage in (lambda path: path.unlink(), lambda path: os.truncate(path, 0)):
        store.write(moving([1], 5))
        damage(_log(tmp_path, -1))
        with pytest.raises(StoreDamaged) as raised:
            store.read([1, 2])
        assert raised.value.births == (1,)
        assert_at(store.read([2])[0], 2, 1)
    store.close()


def test_missing_and_cut_files_cost_their_sessions(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    store.close()
    _log(tmp_path).unlink()
    store = SqliteStore(tmp_path / "sessions.db", log_bytes=0)
    for _ in range(2):
        with pytest.raises(StoreDamaged) as raised:
            store.read([1, 2, 3])
        assert raised.value.births == (1, 2)
        assert_at(store.read([3])[0], 3, 1)
        assert store.find("ada", ["s1", "s3"]) == [1, 3]
        while store.tidy(seconds=1):
            pass
    store.write(Block(ended=[1, 2]))
    assert store.usage().sessions == 1
    store.close()


def test_damage_in_the_table_is_noticed(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    while store.tidy(seconds=1):
        pass
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as connection:
        connection.execute("UPDATE sessions SET state = zeroblob(24) WHERE birth = 1")
        connection.commit()
    with pytest.raises(StoreDamaged, match=r"sessions\.db, session 1") as raised:
        store.read([1, 2])
    assert raised.value.births == (1,)
    store.close()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    store.write(replace(opening([1, 2, 3]), checkpoints=[checkpoint(1), checkpoint(2), checkpoint(2, "b")]))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE checkpoints SET position = 9 WHERE birth = 2 AND name = 'b'")
        connection.commit()
    for call in (store.claim, store.read, lambda births: store.read_own("ada", [b + 1_000 for b in births])):
        with pytest.raises(StoreDamaged, match=r"sessions\.db: checkpoint 'b' of session 2") as raised:
            call([1, 2, 3])
        assert raised.value.births == (2,)
    assert [one.checkpoints for one in store.read([1, 3]) if one] == [[checkpoint(1)], ()]
    store.end("ada", [2])
    assert store.read([2]) == [None]
    store.close()


def test_a_store_of_an_earlier_build_gets_named_checkpoints(tmp_path: Path) -> None:
    """And a server of that build, which goes on meanwhile, ends them with their sessions."""
    path = tmp_path / "sessions.db"
    store = SqliteStore(path)
    store.write(opening([1, 2]))
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER checkpoints_end")
        connection.execute("DROP TABLE checkpoints")
    store = SqliteStore(path)
    [_, claimed] = store.claim([1, 2])
    assert claimed is not None
    kept = [checkpoint(1), checkpoint(2)]
    block = replace(moving([1, 2], 2, epoch=int(claimed.row["epoch"])), checkpoints=kept)
    assert list(store.write(block).moved) == []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM sessions WHERE birth = 1")
        connection.commit()
        assert connection.execute("SELECT birth FROM checkpoints").fetchall() == [(2,)]
    assert [one and one.checkpoints for one in store.read([1, 2])] == [None, [checkpoint(2)]]
    store.close()


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(StoreDamaged, match=r"sessions\.db"):
        SqliteStore(path)


@pytest.mark.parametrize(("version", "says"), [(3, "a newer statewise"), (1, "no release")])
def test_another_schema_is_refused_by_name(tmp_path: Path, version: int, says: str) -> None:
    path = tmp_path / "sessions.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StoreVersionError, match=f"expected schema 2, received schema {version}.*{says}"):
        SqliteStore(path)


def test_records_of_a_newer_format_are_refused_by_name(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    head = struct.pack("<8sIIQ", b"swislog\0", 2, 2, _log(tmp_path).stat().st_size)
    _overwrite(_log(tmp_path), 0, head + struct.pack("<I", zlib.crc32(head)))
    with pytest.raises(StoreVersionError, match=r"log-1-1.*expected records of format 1, received format 2"):
        store.read([1])
    assert_at(store.read([3])[0], 3, 1)
    store.close()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreError, match="another database"):
        SqliteStore(path)


def test_a_lock_that_is_held_for_long_makes_the_store_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store = SqliteStore(path, busy_s=0.01)
    store.write(opening([1]))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="busy timeout"):
            store.write(moving([1], 2))
        assert_at(store.read([1])[0], 1, 1)
        connection.execute("ROLLBACK")
    store.write(moving([1], 2))
    assert_at(store.read([1])[0], 1, 2)
    store.close()


def test_files_are_readable_by_their_user_alone(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert len(modes) >= 4
    assert set(modes.values()) == {0o600}
    store.close()


def test_a_folder_that_is_not_there_makes_the_store_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere does not exist"):
        SqliteStore(tmp_path / "nowhere" / "sessions.db")


def test_a_full_disk_makes_the_store_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with mounted(folder, "size=2m"):
        store = SqliteStore(folder / "sessions.db")
        store.write(opening([1, 2]))
        large = Block(groups=[group_of([1], 2, size=100_000)])
        with filled(folder):
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match=r"No space left|full"):
                    store.write(large)
                assert_at(store.read([1])[0], 1, 1)
            with pytest.raises(StoreUnavailable):
                store.write(
                    Block([Name(n, "ada", f"s{n}") for n in range(10, 600)], [group_of(range(10, 600), 1)])
                )
        store.write(large)
        assert_at(store.read([1])[0], 1, 2, 100_000)
        assert_at(store.read([2])[0], 2, 1)
        assert len(list(folder.glob("sessions.db-log-*"))) <= 2
        store.close()


def test_a_read_only_file_system_makes_the_store_unavailable(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with mounted(folder, "size=4m"):
        store = SqliteStore(folder / "sessions.db")
        store.write(opening([1]))
        store.close()
        make_read_only(folder)
        with pytest.raises(StoreUnavailable, match="Read-only"):
            SqliteStore(folder / "sessions.db")


def test_a_log_that_no_one_folds_is_bounded(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db", log_bytes=10_000, log_full_bytes=20_000)
    store.write(opening([1]))
    assert not store.folding_due
    for position in range(2, 6):
        store.write(moving([1], position))
    with pytest.raises(StoreUnavailable, match="folded"):
        store.write(moving([1], 6))
    assert store.folding_due
    store.write(Block(ended=[9]))
    while store.tidy(seconds=1):
        pass
    assert not store.folding_due
    store.write(moving([1], 6))
    assert_at(store.read([1])[0], 1, 6)
    store.close()


def test_one_writer_folds_until_its_lease_ends(tmp_path: Path) -> None:
    now = [1_000.0]
    first, second = (
        SqliteStore(tmp_path / "sessions.db", log_bytes=0, clock=lambda: now[0]) for _ in range(2)
    )
    first.write(opening([1]))
    assert not first.tidy(seconds=1)
    first.write(moving([1], 2))
    assert not second.tidy(seconds=1)
    assert second.folding_due
    now[0] += 60
    assert not second.tidy(seconds=1)
    assert not second.folding_due
    first.write(moving([1], 3))
    second.close()
    assert not first.tidy(seconds=1)
    assert not first.folding_due
    assert_at(first.read([1])[0], 1, 3)
    first.close()


def test_files_of_the_log_are_used_again_or_go_when_their_records_are_folded(tmp_path: Path) -> None:
    store = _two_records(tmp_path)
    for position in range(2, 20):
        store.write(moving([1, 3], position))
    assert len(list(tmp_path.glob("sessions.db-log-*"))) == 20
    inodes = {path.stat().st_ino for path in tmp_path.glob("sessions.db-log-*")}
    while store.tidy(seconds=1):
        pass
    left = {path.stat().st_ino for path in tmp_path.glob("sessions.db-log-*")}
    assert len(left) == 3
    for position in range(20, 22):
        store.write(moving([1, 3], position))
    assert {path.stat().st_ino for path in tmp_path.glob("sessions.db-log-*")} == left <= inodes
    assert_at(store.read([3])[0], 3, 21)
    store.close()


def test_a_writer_that_missed_takeovers_compares_its_sessions(tmp_path: Path) -> None:
    sleeper, other = (SqliteStore(tmp_path / "sessions.db", takeovers_kept=2) for _ in range(2))
    births = list(range(1, 9))
    sleeper.write(opening(births))
    for birth in (1, 2, 3, 4, 5):
        other.claim([birth])
    other.write(Block(ended=[6]))
    sleeper.write(opening([20]))
    for _ in range(2):
        assert sorted(sleeper.write(moving([1, 5, 6, 7], 5)).moved) == [1, 5, 6]
        assert sorted(sleeper.write(moving([2, 3, 8, 20], 5)).moved) == [2, 3]
    assert_at(other.read([2])[0], 2, 1)
    assert_at(other.read([7])[0], 7, 5)
    sleeper.close()
    other.close()


def test_what_a_writer_forgets_of_many_takeovers_it_compares(tmp_path: Path) -> None:
    writer, other = (SqliteStore(tmp_path / "sessions.db", takeovers_kept=3) for _ in range(2))
    births = list(range(1, 21))
    writer.write(opening(births))
    for birth in births[:-1]:
        other.claim([birth])
        assert list(writer.write(moving([20], birth + 1)).moved) == []
    for _ in range(2):
        assert sorted(writer.write(moving(births, 50)).moved) == births[:-1]
    assert_at(other.read([20])[0], 20, 50)
    assert_at(other.read([1])[0], 1, 1)
    writer.close()
    other.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db")
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.read([1])


@pytest.mark.parametrize(("chosen", "pragma"), [("full", 2), ("normal", 1)])
async def test_the_setting_says_whether_commits_are_synced(
    tmp_path: Path, chosen: Literal["full", "normal"], pragma: int
) -> None:
    path = tmp_path / "sessions.db"
    settings = Settings(repository=tmp_path, store=f"sqlite:{path}", store_synchronous=chosen)
    thread = StoreThread.of_settings(settings)
    assert thread is not None
    store = thread.store
    assert isinstance(store, SqliteStore)
    synced = await thread.call(store._connection.execute, "PRAGMA synchronous")
    assert synced.fetchone() == (pragma,)
    await thread.call(store.write, opening([1]))
    await thread.close()
    assert_at(SqliteStore(path).read([1])[0], 1, 1)
