"""Lets Redis refuse what a running server asks: each refusal is told, and is over when its cause is gone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.chaos.watched import Watched
from tests.client.samples import sequences
from tests.helpers.server_process import ServerProcesses
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.client import Client, Session

pytestmark = pytest.mark.long

X = sequences(3_000, seed=9)[0]
USER = ("--user", "keeper", "on", ">first", "~statewise:*", "+@all")
SLOWLY = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
"""Loads a key in 10 ms, and answers meanwhile that it is loading."""
FILLERS = 100


@contextmanager
def full_memory(_: RedisServer, client: Any, __: Path) -> Iterator[None]:
    client.config_set("maxmemory", "1mb")
    yield
    client.config_set("maxmemory", "0")


@contextmanager
def replica(_: RedisServer, client: Any, __: Path) -> Iterator[None]:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def lacking_command(_: RedisServer, client: Any, __: Path) -> Iterator[None]:
    client.execute_command("ACL", "SETUSER", "keeper", "-zadd")
    yield
    client.execute_command("ACL", "SETUSER", "keeper", "+zadd")


@contextmanager
def other_password(_: RedisServer, client: Any, password: Path) -> Iterator[None]:
    client.execute_command("ACL", "SETUSER", "keeper", "resetpass", ">second")
    client.client_kill_filter(_type="normal", skipme=True)
    yield
    password.write_text("second\n")


@contextmanager
def loading(server: RedisServer, client: Any, password: Path) -> Iterator[None]:
    for number in range(FILLERS):
        client.set(f"filler:{number}", "-" * 200)
    client.bgrewriteaof()
    while client.info("persistence")["aof_rewrite_in_progress"]:
        pass
    password.write_text("first\n")  # the user begins anew with the server
    server.kill()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.start)
        yield
        starting.result()


REFUSALS: dict[str, Callable[[RedisServer, Any, Path], AbstractContextManager[None]]] = {
    "has reached maxmemory": full_memory,
    "is a read-only replica": replica,
    "does not permit this user what the store needs: .*ZADD": lacking_command,
    "refused user or password": other_password,
    "is loading its data": loading,
}
"""What makes Redis refuse, by what the log says of it."""


def step_until_durable(session: Session) -> None:
    """Steps a session until the store has one of the steps."""
    told = session.durable_position
    while session.durable_position == told:
        session.step(X[session.position])


def test_refusals_are_told_and_end(servers: ServerProcesses, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("first\n")
    with redis_server(*USER, *SLOWLY) as redis, redis.client() as client:
        chosen = {
            "store": redis.url.replace("unix://", "unix://keeper@x"),
            "store_password_file": str(password),
            "checkpoint_s": 0.03,
        }
        server = Watched(servers, tmp_path / "log", **chosen)
        with Client(server.address, reconnect_s=60) as owner:
            whole = owner.predict("steps", X)
            session = owner.session("steps", id="kept")
            step_until_durable(session)
            for refusal in REFUSALS.values():
                with refusal(redis, client, password):
                    session.step(X[session.position])
                    server.wait_for_failures(1)
                server.wait_until_back()
                step_until_durable(session)
            server.process.kill()
            told = session.durable_position
        server.assert_log("|".join([*REFUSALS, "cannot be reached"]), outages=len(REFUSALS))
        for says in REFUSALS:
            server.assert_log_says(says)
        with Client(servers.start(**chosen).address) as other:
            session = other.resume("kept")
            kept = session.position
            assert kept >= told
            np.testing.assert_array_equal(session.step(X[kept:]), whole[kept:])
