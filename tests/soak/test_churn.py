"""Runs many sessions that come and go: none is mixed up, none is left behind, and memory does not grow.

`make soak` takes a million steps; here a few thousand, in the same way.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.helpers.models.small import SmallModels
from tests.soak.churn import ChurningCaller

from statewise.v1 import admin_pb2, admin_pb2_grpc, sequence_pb2, sequence_pb2_grpc
from statewise.wire import pack_uint64

STEPS = int(os.environ.get("SOAK_STEPS", "6000"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
CALLERS = 6
CAPACITY = 600
IDLE_TIMEOUT_S = 2.0
STATS_INTERVAL = Duration(nanos=200_000_000)
ALLOWED_GROWTH = 16 * 1024 * 1024
"""Bytes; the server remembers some thousands of ids and handles of ended sessions."""

SERVE = """
import sys
from pathlib import Path
from statewise.service import Settings, serve
serve(
    Settings(repository=Path(sys.argv[1]), listen="127.0.0.1:0", sessions=int(sys.argv[2]),
             idle_timeout_s=float(sys.argv[3]), piece_s=0.0002),
    ready=sys.stdout,
)
"""


@asynccontextmanager
async def serving(repository: Path) -> AsyncIterator[tuple[int, str]]:
    """A server in a process of its own; gives its pid and address."""
    arguments = [str(repository), str(CAPACITY), str(IDLE_TIMEOUT_S)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.pid, (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.terminate()
        assert await process.wait() == 0


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def no_session_is_left(address: str) -> None:
    """Waits until abandoned sessions have expired; the server then lists none."""
    async with grpc.aio.insecure_channel(address) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        async for stats in admin.WatchStats(admin_pb2.WatchStatsRequest(interval=STATS_INTERVAL)):
            if not any(model.sessions for model in stats.models):
                break
        assert not (await admin.ListSessions(admin_pb2.ListSessionsRequest(page_size=1))).sessions


async def expired_ids_are_remembered(address: str, names: list[str]) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        sequences = sequence_pb2_grpc.SequenceServiceStub(channel)
        resumed = await sequences.ResumeSessions(sequence_pb2.ResumeSessionsRequest(session_ids=names))
    assert [error.reason for error in resumed.errors] == ["SESSION_EXPIRED"] * len(names)


async def room_for_every_session(address: str) -> None:
    """Opens as many sessions as the limit allows, and no more: no slot has leaked."""
    names = [f"last {number}" for number in range(CAPACITY + 1)]
    async with grpc.aio.insecure_channel(address) as channel:
        sequences = sequence_pb2_grpc.SequenceServiceStub(channel)
        opened = await sequences.OpenSessions(
            sequence_pb2.OpenSessionsRequest(model="steps", session_ids=names)
        )
        assert len(opened.sessions) == CAPACITY
        assert [error.reason for error in opened.errors] == ["SESSION_LIMIT"]
        handles = pack_uint64([session.handle for session in opened.sessions])
        await sequences.CloseSessions(sequence_pb2.CloseSessionsRequest(handles=handles))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
async def test_sessions_that_come_and_go(repository: Path, small_models: SmallModels) -> None:
    counts: Counter[str] = Counter()
    resident: list[int] = []
    oracle = small_models.find("steps")
    begun_s = time.monotonic()
    async with serving(repository) as (pid, address):
        for part in range(10):
            callers = [
                ChurningCaller(number, address, oracle=oracle, seed=SEED, idle_timeout_s=IDLE_TIMEOUT_S)
                for number in range(CALLERS * part, CALLERS * (part + 1))
            ]
            await asyncio.gather(*(caller.run(STEPS // 10 // CALLERS) for caller in callers))
            for caller in callers:
                counts += caller.counts
            resident.append(resident_bytes(pid))
        await no_session_is_left(address)
        left = [session.name for caller in callers for session in caller.abandoned]
        if left:
            await expired_ids_are_remembered(address, left)
        await room_for_every_session(address)
    growth = resident[-1] - resident[2]
    report = {
        **dict(sorted(counts.items())),
        "seconds": round(time.monotonic() - begun_s, 1),
        "resident_mib": [round(size / 2**20, 1) for size in resident],
    }
    print(json.dumps(report))
    assert counts["steps"] >= STEPS * 0.9
    assert growth < ALLOWED_GROWTH, report["resident_mib"]
    # Each operation has happened.
    happened = {
        "opened",
        "closed",
        "forked",
        "restored",
        "rewound",
        "resumed",
        "repeated",
        "left",
        "abandoned",
    }
    assert happened <= counts.keys()
