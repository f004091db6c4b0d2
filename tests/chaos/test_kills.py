"""Kills a server under load, at random moments, and starts it again: no output is lost, doubled or changed.

CHAOS_SESSIONS, CHAOS_REQUESTS, CHAOS_KILLS and CHAOS_SEED make it longer, or repeat it.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.programs import Progress
from tests.chaos.runs import assert_same, moments, run_programs
from tests.helpers.server_process import ServerProcesses
from tests.service.stores.redis_server import RedisServer

pytestmark = pytest.mark.long

PROGRAMS = int(os.environ.get("CHAOS_SESSIONS", "16"))
REQUESTS = int(os.environ.get("CHAOS_REQUESTS", "100"))
KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4))


@pytest.mark.parametrize("durability", ["interval", "reply"])
def test_a_server_that_is_killed(servers: ServerProcesses, tmp_path: Path, durability: str) -> None:
    print(f"CHAOS_SEED={SEED}")
    chosen = {
        "store": f"sqlite:{tmp_path / 'sessions.db'}",
        "checkpoint_s": 0.03,
        "durability": durability,
    }
    calm = servers.start()
    load: dict[str, Any] = {"count": PROGRAMS, "requests": REQUESTS, "seed": SEED}
    expected = run_programs(calm.address, **load)
    calm.stop()
    running = [servers.start(**chosen)]
    address = running[0].address

    def kill(progress: Progress) -> None:
        for moment in moments(KILLS, PROGRAMS * REQUESTS, SEED):
            progress.wait(moment)
            running[-1].kill()
            running.append(servers.start(listen=address, **chosen))

    assert_same(run_programs(address, **load, disturb=kill), expected)


def test_a_redis_server_that_is_killed_and_cut(servers: ServerProcesses, redis: RedisServer) -> None:
    print(f"CHAOS_SEED={SEED}")
    chosen = {"store": redis.url, "checkpoint_s": 0.03}
    calm = servers.start()
    load: dict[str, Any] = {"count": PROGRAMS, "requests": REQUESTS, "seed": SEED}
    expected = run_programs(calm.address, **load)
    calm.stop()
    running = [servers.start(**chosen)]
    address = running[0].address

    def disturb(progress: Progress) -> None:
        for number, moment in enumerate(moments(2 * KILLS, PROGRAMS * REQUESTS, SEED)):
            progress.wait(moment)
            if number % 3 == 0:
                redis.restart()
            elif number % 3 == 1:
                with redis.client() as client:
                    client.client_kill_filter(_type="normal", skipme=True)
            else:
                running[-1].kill()
                running.append(servers.start(listen=address, **chosen))

    assert_same(run_programs(address, **load, disturb=disturb), expected)
