"""Cancels callers at random moments: no session stays busy, no step queued, no stream open."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from tests.helpers.caller import connect

from statewise.client import AsyncClient, AsyncSession, StatewiseError
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64

T = TypeVar("T")
LIVES = 60
Sample = int | npt.NDArray[np.float32]
MODELS: dict[str, Sample] = {"letters": 3, "chatter": 2, "wave": np.zeros(3, np.float32), "speech": 7}
"""A sample of each model."""


def closable(values: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The same values; the client says only that they can be iterated."""
    assert isinstance(values, AsyncGenerator)
    return values


class Life:
    """What one caller does until it is cancelled."""

    def __init__(self, client: AsyncClient, chance: random.Random) -> None:
        self._client = client
        self._chance = chance

    async def run(self) -> None:
        while True:
            model = self._chance.choice(["letters", "chatter", "wave", "speech"])
            try:
                session = await self._session(model)
                for _ in range(self._chance.randrange(1, 6)):
                    await self._do(session, MODELS[model])
            except StatewiseError:
                pass  # other callers take sessions over, and a generation may have nothing to go on from

    async def _session(self, model: str) -> AsyncSession:
        condition = "pqr" if model == "speech" else None
        name = self._chance.choice([None, f"{model}-shared"])
        return await self._client.session(model, id=name, condition=condition)

    async def _do(self, session: AsyncSession, sample: Sample) -> None:
        match self._chance.choice(["step", "steps", "generate", "leave", "rewind", "copy", "close"]):
            case "step":
                await session.step(sample)
            case "steps":
                await session.step(np.stack([sample] * 20))
            case "generate":
                async for _ in session.generate(steps=self._chance.randrange(1, 40)):
                    pass
            case "leave":
                async with aclosing(closable(session.generate(steps=40))) as values:
                    await anext(values, None)
            case "rewind":
                await session.rewind()
            case "copy":
                await self._client.restore(await session.snapshot())
                await session.fork()
            case "close":
                await session.close()


async def nothing_is_left(address: str) -> None:
    """Takes over, steps and closes every session; then no step is queued and no other stream is open."""
    async with AsyncClient(address) as client, asyncio.timeout(60):
        for left in await client.list_sessions():
            session = await client.resume(left.id)
            await session.step(MODELS[left.model])
            await session.close()
        assert await client.list_sessions() == []
        async with aclosing(closable(client.watch_stats())) as reports:
            report = await anext(reports)
    assert [model.queued_steps for model in report.models] == [0] * len(report.models)
    assert report.streams == 1


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
async def test_nothing_stays_taken_queued_or_open(address: str, seed: int) -> None:
    chance = random.Random(seed)

    async def come_and_go(number: int) -> None:
        async with AsyncClient(address, reconnect_s=5) as client:
            living = asyncio.create_task(Life(client, random.Random(1000 * seed + number)).run())
            for _ in range(chance.randrange(3000)):
                await asyncio.sleep(0)
            living.cancel()
            await asyncio.wait((living,))
            assert living.cancelled(), living.exception()

    for begin in range(0, LIVES, 12):
        await asyncio.gather(*(come_and_go(number) for number in range(begin, begin + 12)))
    await nothing_is_left(address)


@pytest.mark.parametrize("seed", range(4))
async def test_calls_may_be_given_up_at_any_moment(address: str, seed: int) -> None:
    chance = random.Random(seed)
    x = np.zeros((1, 3), np.float32)
    async with connect(address) as caller:

        async def ask_and_go(number: int) -> None:
            opening = pb.OpenSessionsRequest(model="wave", session_ids=[f"wave-{number}"])
            (opened,) = (await caller.sequences.OpenSessions(opening)).sessions
            await caller.sequences.Step(caller.frame([(opened.handle, 0)], x))
            for _ in range(20):
                # The server refuses this after a request that was applied; the test is that the call ends.
                request = pb.GenerateSessionsRequest(
                    handles=pack_uint64([opened.handle]), positions=pack_uint64([1]), steps=pack_uint32([200])
                )
                call = caller.sequences.GenerateSessions(request)
                reading = asyncio.ensure_future(call.read())
                for _ in range(chance.randrange(80)):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait((reading,))

        async with asyncio.timeout(60):
            await asyncio.gather(*(ask_and_go(number) for number in range(12)))
        await nothing_is_left(address)
