"""Kills and replaces servers under programs that go back, keep states under names, and write states.

CHAOS_SESSIONS, CHAOS_REQUESTS, CHAOS_KILLS and CHAOS_SEED make it longer, or repeat it.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.programs import Progress
from tests.chaos.runs import assert_same, moments, run_programs
from tests.chaos.state_programs import STATE_PROGRAMS
from tests.chaos.test_rolling_restarts import GRACE_S, replace_in_turn
from tests.helpers.server_process import ServerProcesses
from tests.service.stores.redis_server import RedisServer

pytestmark = pytest.mark.long

PROGRAMS = int(os.environ.get("CHAOS_SESSIONS", "12"))
REQUESTS = int(os.environ.get("CHAOS_REQUESTS", "120"))
KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4))
LOAD: dict[str, Any] = {"count": PROGRAMS, "seed": SEED, "kinds": STATE_PROGRAMS}
STORES = ("sqlite", "redis")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer) -> str:
    """Where servers keep sessions."""
    return redis.url if request.param == "redis" else f"sqlite:{tmp_path / 'sessions.db'}"


@pytest.mark.parametrize("durability", ["interval", "reply"])
def test_a_server_that_is_killed(servers: ServerProcesses, store: str, durability: str) -> None:
    print(f"CHAOS_SEED={SEED}")
    chosen = {"store": store, "checkpoint_s": 0.03, "durability": durability}
    calm = servers.start()
    expected = run_programs(calm.address, requests=REQUESTS, **LOAD)
    calm.stop()
    running = [servers.start(**chosen)]
    address = running[0].address

    def kill(progress: Progress) -> None:
        for moment in moments(KILLS, PROGRAMS * REQUESTS, SEED):
            progress.wait(moment)
            running[-1].kill()
            running.append(servers.start(listen=address, **chosen))

    assert_same(run_programs(address, requests=REQUESTS, disturb=kill, **LOAD), expected)


def test_servers_that_are_killed_and_replaced_in_turn(servers: ServerProcesses, store: str) -> None:
    """Each takes over what the other one had."""
    print(f"CHAOS_SEED={SEED}")
    chosen = {"store": store, "grace_s": GRACE_S}
    running = [servers.start(**chosen) for _ in range(2)]

    def disturb(progress: Progress) -> None:
        progress.wait(PROGRAMS)
        for place in (0, 1):
            running[place].kill()
            progress.wait_for_more(4 * PROGRAMS)
            running[place] = servers.start(listen=running[place].address, **chosen)
            replace_in_turn(servers, running, **chosen)

    both = "ipv4:" + ",".join(server.address for server in running)
    actual = run_programs(both, requests=None, disturb=disturb, **LOAD)
    assert_same(actual, run_programs(servers.start().address, requests=actual, **LOAD))
