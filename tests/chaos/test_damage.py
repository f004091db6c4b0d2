"""Damages the files of a store in SQLite under running servers: it is told, and costs no other session."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.chaos.watched import Watched
from tests.cli.command import statewise
from tests.client.samples import sequences
from tests.helpers.server_process import ServerProcesses

from statewise.client import Client, Session, SessionLost, Unavailable

pytestmark = pytest.mark.long

X = sequences(60, seed=7)[0]
DAMAGE = 0x55


def overwrite(path: Path, begin: int, end: int) -> None:
    """Overwrites bytes of a file with others."""
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes([DAMAGE]) * (end - begin))


def store(session: Session) -> None:
    """Lets the store have where a session is."""
    session.fork().close()


def test_a_damaged_log_costs_its_sessions_until_they_are_written_again(
    servers: ServerProcesses, tmp_path: Path
) -> None:
    path = tmp_path / "sessions.db"
    chosen = {"store": f"sqlite:{path}"}
    keeper, other = (Watched(servers, tmp_path / name, **chosen) for name in ("keeper", "other"))
    with Client(keeper.address, reconnect_s=30) as client, Client(other.address) as resuming:
        whole = client.predict("steps", X)
        healed, lost, spared = (client.session("steps", id=name) for name in ("healed", "lost", "spared"))
        for session in (healed, lost):
            session.step(X[:10])
        store(lost)
        [log] = tmp_path.glob("sessions.db-log-*")
        end = log.stat().st_size
        spared.step(X[:10])
        store(spared)
        overwrite(log, 0, end)
        for session in (healed, lost):
            with pytest.raises(SessionLost):
                resuming.resume(session.id)
        assert other.log.count(" ERROR stored sessions are damaged: ") == 2
        assert f"log {log}, record at offset" in other.log
        np.testing.assert_array_equal(resuming.resume(spared.id).step(X[10:]), whole[10:])
        np.testing.assert_array_equal(healed.step(X[10:20]), whole[10:20])
        store(healed)
        np.testing.assert_array_equal(resuming.resume(healed.id).step(X[20:]), whole[20:])
        keeper.process.kill()
        servers.start(**chosen, listen=keeper.address)
        with pytest.raises(SessionLost):
            lost.step(X[10])
        np.testing.assert_array_equal(client.session("steps").step(X), whole)
    assert other.process.stop() == 0
    assert "Traceback" not in other.log + keeper.log


def test_a_damaged_database_is_told_and_used_no_more(
    servers: ServerProcesses, models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "sessions.db"
    server = Watched(servers, tmp_path / "log", store=f"sqlite:{path}")
    with Client(server.address, reconnect_s=0.1) as client:
        whole = client.predict("steps", X)
        session = client.session("steps", id="kept")
        session.step(X[:10])
        store(session)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() != (0, 0, 0):
                pass
            overwrite(path, 8192, path.stat().st_size)
            connection.execute("PRAGMA user_version = 2")  # the server reads the file again
        np.testing.assert_array_equal(session.step(X[10:20]), whole[10:20])
        server.wait_for_failures(3)
        session.step(X[20])
        assert session.durable_position == 10
        with pytest.raises(Unavailable, match="store"):
            client.session("steps", id="new")
        server.process.kill()
    server.assert_log(f"store {path}: the database is damaged", outages=1)
    done = statewise("serve", "--repository", models, "--store", f"sqlite:{path}")
    assert done.code == 1
    assert done.complaint.startswith(f"store: store {path}: the database is damaged")
