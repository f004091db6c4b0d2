"""Replaces servers one after another, as a deployment does: no program notices.

CHAOS_SESSIONS, CHAOS_RESTARTS, CHAOS_PAUSE_S and CHAOS_SEED make it longer, or repeat it.
"""

import os
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.chaos.programs import Progress
from tests.chaos.runs import assert_same, run_programs
from tests.helpers.server_process import ServerProcess, ServerProcesses
from tests.service.stores.redis_server import RedisServer

pytestmark = pytest.mark.long

PROGRAMS = int(os.environ.get("CHAOS_SESSIONS", "64"))
RESTARTS = int(os.environ.get("CHAOS_RESTARTS", "3"))
PAUSE_S = float(os.environ.get("CHAOS_PAUSE_S", "0.5"))
"""From the moment at which a server is ready to the signal that ends the next one."""
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4))
GRACE_S = 30.0


def wait_until_ready(server: ServerProcess) -> None:
    """Waits until the health service says that the server serves."""
    with grpc.insecure_channel(server.address) as channel:
        told = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        serving = health_pb2.HealthCheckResponse.SERVING
        assert any(answer.status == serving for answer in told)
        told.cancel()


def replace_in_turn(servers: ServerProcesses, running: list[ServerProcess], **chosen: Any) -> None:
    """Stops one server after another and starts it anew, while the others serve."""
    for number in range(RESTARTS):
        time.sleep(PAUSE_S)
        place = number % len(running)
        assert running[place].stop(within_s=GRACE_S) == 0
        running[place] = servers.start(listen=running[place].address, **chosen)
        wait_until_ready(running[place])


@pytest.mark.parametrize("durability", ["interval", "reply"])
def test_no_program_notices_that_its_server_is_replaced(
    servers: ServerProcesses, tmp_path: Path, durability: str
) -> None:
    print(f"CHAOS_SEED={SEED}")
    chosen = {
        "store": f"sqlite:{tmp_path / 'sessions.db'}",
        "durability": durability,
        "grace_s": GRACE_S,
    }
    running = [servers.start(**chosen)]

    def disturb(progress: Progress) -> None:
        progress.wait(PROGRAMS)
        replace_in_turn(servers, running, **chosen)

    load: dict[str, Any] = {"count": PROGRAMS, "seed": SEED}
    actual = run_programs(running[0].address, requests=None, disturb=disturb, **load)
    assert_same(actual, run_programs(servers.start().address, requests=actual, **load))


def test_no_program_notices_that_one_of_two_servers_is_replaced(
    servers: ServerProcesses, redis: RedisServer
) -> None:
    print(f"CHAOS_SEED={SEED}")
    chosen = {"store": redis.url, "grace_s": GRACE_S}
    running = [servers.start(**chosen) for _ in range(2)]

    def disturb(progress: Progress) -> None:
        progress.wait(PROGRAMS)
        replace_in_turn(servers, running, **chosen)

    load: dict[str, Any] = {"count": PROGRAMS, "seed": SEED}
    both = "ipv4:" + ",".join(server.address for server in running)
    actual = run_programs(both, requests=None, disturb=disturb, **load)
    assert_same(actual, run_programs(servers.start().address, requests=actual, **load))
