"""Starts `statewise serve` on stores that cannot be used: one line says which store it is, and why."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.command import statewise
from tests.helpers.disks import filled, make_read_only, mounted
from tests.service.stores.redis_server import redis_server

from statewise.service.stores.sqlite import SqliteStore


def complaint(folder: Path, store: str) -> str:
    """What a server says that cannot start with a store."""
    done = statewise("serve", "--repository", folder, "--store", store, "--listen", "127.0.0.1:0")
    assert done.code == 1
    assert "Traceback" not in done.err
    return done.complaint


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\x55" * 100)


def schema(version: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            schema(3),
            "expected schema 2, received schema 3: a newer statewise wrote it; serve it with that version "
            "or a newer one",
        ),
        (
            schema(1),
            "expected schema 2, received schema 1: no release has written that one; serve with another file",
        ),
        (damage, "the database is damaged: file is not a database"),
    ],
    ids=["newer", "older", "damaged"],
)
def test_a_database_that_cannot_be_used(tmp_path: Path, change: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "sessions.db"
    SqliteStore(path).close()
    change(path)
    before = path.read_bytes()
    assert complaint(tmp_path, f"sqlite:{path}") == f"store: store {path}: {says}"
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", ["0", "2"])
def test_sessions_in_redis_in_another_format(tmp_path: Path, version: str) -> None:
    with redis_server() as server:
        with server.client() as client:
            client.set("statewise:format", f"statewise {version} 00ff")
        assert complaint(tmp_path, server.url) == (
            f"store: {server.url} has sessions in format {version}; this version of statewise reads "
            "format 1: use the version that wrote them, or another key prefix"
        )


def test_a_redis_server_that_is_away(tmp_path: Path) -> None:
    address = f"unix://{tmp_path / 'nowhere.sock'}"
    assert complaint(tmp_path, address).startswith(f"store: {address} cannot be reached: ")


def test_a_disk_that_is_full_or_read_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=2m") as folder:
        store = f"sqlite:{folder / 'sessions.db'}"
        with filled(folder):
            full = complaint(tmp_path, store)
        SqliteStore(folder / "sessions.db").close()
        make_read_only(folder)
        read_only = complaint(tmp_path, store)
    assert "the disk is full" in full
    assert "Read-only file system" in read_only
