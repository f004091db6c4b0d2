"""Checks that a server whose memory holds few sessions keeps many more, each with its own bits.

`HIBERNATION_SESSIONS` sets how many; with Redis it is a fifth.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.metrics_server import http_get, serve_with_metrics
from tests.helpers.models.small import SmallModels
from tests.service.stores.redis_server import redis_server

from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor

pytestmark = pytest.mark.long

Numbers = np.ndarray
SESSIONS = int(os.environ.get("HIBERNATION_SESSIONS", "50000"))
LIMIT = 2_000
BATCH = 1_024


class Sleepers:
    """Many sessions by number, the outputs that they must have, and a caller who has their handles."""

    def __init__(
        self, caller: Caller, sessions: int, small_models: SmallModels, random: np.random.Generator
    ) -> None:
        self.handles = np.zeros(sessions, np.uint64)
        self._caller = caller
        self._x = random.standard_normal((sessions, 2, 3)).astype(np.float32)
        model = small_models.find("steps")
        self._expected = np.stack([model.run(x)[0] for x in self._x])

    async def open(self, numbers: Numbers) -> None:
        """Opens sessions."""
        ids = [str(number) for number in numbers]
        self.handles[numbers] = await self._caller.open("steps", *ids)

    async def resume(self, numbers: Numbers) -> None:
        """Gets sessions by their ids, at the position where they were left."""
        request = sequence_pb2.ResumeSessionsRequest(session_ids=[str(number) for number in numbers])
        resumed = await self._caller.ask(resume=request)
        assert not resumed.errors
        assert {session.position for session in resumed.sessions} == {1}
        self.handles[numbers] = [session.handle for session in resumed.sessions]

    async def step(self, numbers: Numbers, position: int) -> None:
        """Steps sessions in one message, and compares every bit of the outputs."""
        rows = [(handle, position) for handle in self.handles[numbers].tolist()]
        reply = await self._caller.ask(step=self._caller.frame(rows, self._x[numbers, position]))
        assert not reply.errors, reply.errors[:1]
        assert from_tensor(reply.outputs["y"]).tobytes() == self._expected[numbers, position].tobytes()


def in_groups(numbers: Numbers, size: int) -> Iterator[Numbers]:
    return (numbers[begin : begin + size] for begin in range(0, len(numbers), size))


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'sessions.db'}"
    else:
        with redis_server("--appendfsync", "everysec") as server:
            yield server.url


def total(metrics: str, series: str) -> float:
    """The value of one series, or the sum of those that have further labels."""
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(series))


async def test_sessions_beyond_the_limit_sleep_and_wake_with_their_own_bits(
    store: str, repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    async with (
        serve_with_metrics(repository, store=store, sessions=LIMIT) as (address, http),
        connect(address) as caller,
    ):

        def require_bounded() -> str:
            _, metrics = http_get(http, "/metrics")
            awake = total(metrics, "statewise_sessions{")
            assert 0 < awake <= LIMIT
            assert total(metrics, "statewise_state_bytes{") <= LIMIT * 2 * 64
            return metrics

        sessions = SESSIONS if store.startswith("sqlite") else SESSIONS // 5
        sleepers = Sleepers(caller, sessions, small_models, random)
        for numbers in in_groups(np.arange(sessions), BATCH):
            await sleepers.open(numbers)
            await sleepers.step(numbers, 0)
            require_bounded()
        order = random.permutation(sessions)
        by_handle, by_id, in_batches = np.split(order, [sessions // 50, sessions // 8])
        for numbers in in_groups(by_handle, 1):
            await sleepers.step(numbers, 1)
        for numbers in in_groups(by_id, 100):
            await sleepers.resume(numbers)
            await sleepers.step(numbers, 1)
            require_bounded()
        for numbers in in_groups(in_batches, BATCH):
            await sleepers.step(numbers, 1)
            metrics = require_bounded()
        assert total(metrics, 'statewise_sessions_opened_total{origin="wake"}') >= sessions - LIMIT
        await sleepers.step(in_batches[-BATCH:], 1)  # those that are awake repeat their last request
