"""Takes Redis away from a server under load, and gives it back: no output is lost, doubled or changed.

CHAOS_SESSIONS, CHAOS_CUTS, CHAOS_AWAY_S and CHAOS_SEED make it longer, or repeat it.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from tests.chaos.programs import Progress
from tests.chaos.runs import RECONNECT_S, assert_same, run_programs
from tests.chaos.test_kills import PROGRAMS, SEED
from tests.chaos.watched import Watched
from tests.client.samples import sequences
from tests.helpers.server_process import ServerProcesses
from tests.service.stores.cutting_proxy import CuttingProxy, cutting_proxy
from tests.service.stores.redis_server import RedisServer

from statewise.client import Client

pytestmark = pytest.mark.long

CUTS = int(os.environ.get("CHAOS_CUTS", "8"))
AWAY_S = float(os.environ.get("CHAOS_AWAY_S", "1"))
SETTINGS: dict[str, Any] = {"checkpoint_s": 0.03, "store_answer_s": 0.3}
WHY = r"cannot be reached|did not answer in time|is loading its data"
X = sequences(3_000, seed=8)[0]


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[CuttingProxy]:
    """A relay to the Redis server."""
    with cutting_proxy(redis.socket.parent, redis.socket) as running:
        yield running


Act = Callable[[RedisServer], None]
OUTAGES: dict[str, tuple[Act, Act]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "paused": (RedisServer.pause, RedisServer.resume),
}
"""What takes the server away, and what brings it back."""


def cut(proxy: CuttingProxy, random: np.random.Generator) -> None:
    """Cuts a connection in the middle of a call, or of the answer to one."""
    happened = Event()
    if random.integers(2):
        proxy.cut_after_bytes(int(random.integers(1, 50_000)), happened.set)
    else:
        proxy.cut_next_reply(int(random.integers(0, 40)), happened.set)
    happened.wait()


@pytest.mark.parametrize("durability", ["interval", "reply"])
def test_programs_go_on_when_redis_is_back(
    servers: ServerProcesses, tmp_path: Path, redis: RedisServer, proxy: CuttingProxy, durability: str
) -> None:
    print(f"CHAOS_SEED={SEED}")
    load: dict[str, Any] = {"count": PROGRAMS, "seed": SEED}
    random = np.random.default_rng(SEED)
    server = Watched(servers, tmp_path / "log", store=proxy.url, durability=durability, **SETTINGS)

    def disturb(progress: Progress) -> None:
        for name in random.permutation(list(OUTAGES)):
            for _ in range(CUTS // 2):
                cut(proxy, random)
                progress.wait_for_more(PROGRAMS)
            leave, return_ = OUTAGES[name]
            until_s = time.monotonic() + AWAY_S
            leave(redis)
            server.wait_for_failures(2)
            if durability == "interval":  # sessions in memory go on
                progress.wait_for_more(2 * PROGRAMS)
            time.sleep(max(until_s - time.monotonic(), 0))
            return_(redis)
            server.wait_until_back()
            progress.wait_for_more(PROGRAMS)

    actual = run_programs(server.address, **load, requests=None, disturb=disturb)
    assert server.process.stop() == 0
    calm = servers.start()
    assert_same(actual, run_programs(calm.address, **load, requests=actual))
    server.assert_log(WHY, outages=len(OUTAGES))


@pytest.mark.parametrize("outage", OUTAGES)
def test_while_redis_is_away_steps_go_on_and_openings_wait(
    servers: ServerProcesses, tmp_path: Path, redis: RedisServer, outage: str
) -> None:
    leave, return_ = OUTAGES[outage]
    server = Watched(servers, tmp_path / "log", store=redis.url, **SETTINGS)
    with Client(server.address, reconnect_s=RECONNECT_S) as client, ThreadPoolExecutor(2) as pool:
        whole = client.predict("steps", X)
        session, origin = (client.session("steps", id=name) for name in ("kept", "origin"))
        origin.step(X[:5])
        while session.durable_position < 3:
            session.step(X[session.position])
        leave(redis)
        session.step(X[session.position])
        server.wait_for_failures(1)
        session.step(X[session.position])
        told = session.durable_position
        waiting = [pool.submit(client.session, "steps", id="new"), pool.submit(origin.fork, id="copy")]
        for _ in range(3):
            server.wait_for_failures(1)
            at = session.position
            np.testing.assert_array_equal(session.step(X[at]), whole[at])
            assert session.durable_position == told
        assert not any(opened.done() for opened in waiting)
        server.process.kill()
        return_(redis)
        servers.start(store=redis.url, listen=server.address, **SETTINGS)
        new, copy = (opened.result() for opened in waiting)
        np.testing.assert_array_equal(new.step(X), whole)
        at = session.position
        np.testing.assert_array_equal(session.step(X[at:]), whole[at:])
        np.testing.assert_array_equal(copy.step(X[5:]), whole[5:])


@pytest.mark.parametrize("outage", OUTAGES)
def test_replies_wait_for_redis(
    servers: ServerProcesses, tmp_path: Path, redis: RedisServer, outage: str
) -> None:
    leave, return_ = OUTAGES[outage]
    server = Watched(servers, tmp_path / "log", store=redis.url, durability="reply", **SETTINGS)
    with Client(server.address, reconnect_s=RECONNECT_S) as client, ThreadPoolExecutor(1) as pool:
        whole = client.predict("steps", X)
        session = client.session("steps", id="kept")
        leave(redis)
        step = pool.submit(session.step, X[:5])
        server.wait_for_failures(3)
        assert not step.done()
        return_(redis)
        np.testing.assert_array_equal(step.result(), whole[:5])
        assert session.durable_position == 5
