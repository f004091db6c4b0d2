"""Sessions, states and schedulers belong to the thread of the event loop, whichever transport serves."""

import asyncio
import shutil
import threading
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.helpers.models.generative import write_generative_models
from tests.helpers.models.small import SmallModels
from tests.helpers.one_thread import OneThread
from tests.soak.churn import ChurningCaller

from statewise.client import AsyncClient
from statewise.service import Settings
from statewise.service.server import Server
from statewise.service.session_state import SessionTable
from statewise.service.testing import server_in_thread
from statewise.v1 import admin_pb2, admin_pb2_grpc

IDLE_TIMEOUT_S = 1.0
USED = {
    "Scheduler._turn",
    "Scheduler.submit",
    "Scheduler.submit_barrier",
    "Scheduler.submit_job",
    "Scheduler.submit_sequences",
    "SessionTable.add",
    "SessionTable.advance",
    "SessionTable.expire",
    "SessionTable.remove",
    "SessionTable.take_over",
    "SessionTable.turn_to",
    "StateArena.gather",
    "StateArena.give_back",
    "StateArena.scatter",
    "StateArena.take_row",
}


def test_a_use_in_another_thread_is_noted() -> None:
    owner = OneThread()
    table = owner.make_table(10, clock=lambda: 0.0)
    slot = table.add(1, "a", model=0, row=0)
    assert not owner.breaches
    other = threading.Thread(target=table.remove, args=(slot,), name="other")
    other.start()
    other.join()
    assert "SessionTable.remove in other" in owner.breaches
    assert isinstance(table, SessionTable)


async def generate(address: str, number: int) -> None:
    async with AsyncClient(address) as client:
        for _ in range(4):
            assert len([part async for part in client.generate("letters", steps=60, seed=number)])
            async with client.session("chatter") as session:
                assert len([part async for part in session.generate(steps=150, seed=number)])


async def predict(address: str) -> None:
    random = np.random.default_rng(3)
    async with AsyncClient(address) as client:
        for _ in range(4):
            await client.predict("last", random.standard_normal((400, 3)).astype(np.float32))


async def expire(address: str) -> None:
    """Waits until no session is left."""
    async with grpc.aio.insecure_channel(address) as channel:
        watch = admin_pb2.WatchStatsRequest(interval=Duration(nanos=100_000_000))
        async for stats in admin_pb2_grpc.AdminServiceStub(channel).WatchStats(watch):
            if not any(model.sessions for model in stats.models):
                return


@pytest.mark.long
@pytest.mark.parametrize("inline_s", [0.0, 1.0])
@pytest.mark.parametrize("transport", ["queue", "aio"])
def test_sessions_states_and_schedulers_are_used_in_the_thread_of_the_event_loop(
    transport: str, inline_s: float, repository: Path, small_models: SmallModels, tmp_path: Path
) -> None:
    owners: list[OneThread] = []

    def make_server(settings: Settings) -> Server:
        owners.append(OneThread())
        return Server(settings, make_models=owners[0].make_models, make_table=owners[0].make_table)

    async def load() -> None:
        churn = partial(ChurningCaller, oracle=small_models.find("steps"), idle_timeout_s=IDLE_TIMEOUT_S)
        callers = [churn(number, address, seed=5) for number in range(3)]
        await asyncio.gather(
            *(caller.run(1500) for caller in callers),
            *(generate(address, number) for number in range(2)),
            predict(address),
        )
        await expire(address)

    write_generative_models(tmp_path)
    for model in ("steps", "last"):
        shutil.copytree(repository / model, tmp_path / model)
    serving = server_in_thread(
        tmp_path,
        make_server=make_server,
        transport=transport,
        inline_s=inline_s,
        piece_s=0.0002,
        idle_timeout_s=IDLE_TIMEOUT_S,
        metrics_listen="127.0.0.1:0",
    )
    with serving as address:
        asyncio.run(load())
    (owner,) = owners
    assert not owner.breaches, sorted(set(owner.breaches))
    assert not USED - owner.used.keys()
