"""Tests what only `AsyncClient` has: concurrent tasks, cancellation, awaiting and entering."""

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator

import numpy as np
import pytest
from tests.client.relay import Relay
from tests.client.samples import sequences
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import AsyncClient, SessionNotFound, Timeout, Unavailable
from statewise.client.stream import StepBatcher


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address) as client:
        yield client


async def test_concurrent_tasks_get_what_each_gets_alone(
    client: AsyncClient, small_models: SmallModels
) -> None:
    rows = sequences(*[8] * 200)

    async def run(row: Floats) -> Floats:
        async with client.session("steps") as session:
            return np.stack([await session.step(sample) for sample in row])

    outputs = await asyncio.gather(*(run(row) for row in rows))
    for row, output in zip(rows, outputs, strict=True):
        np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])


async def test_a_bad_step_fails_alone_among_concurrent_ones(
    client: AsyncClient, small_models: SmallModels
) -> None:
    rows = sequences(*[1] * 20)
    rows[7][:] = np.nan
    opened = await asyncio.gather(*(client.session("steps") for _ in rows))
    outcomes = await asyncio.gather(
        *(session.step(row[0]) for session, row in zip(opened, rows, strict=True)), return_exceptions=True
    )
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Exception)] == [7]
    np.testing.assert_array_equal(outcomes[8], small_models.find("steps").run(rows[8])[0][0])


async def test_a_session_can_be_awaited_or_entered(client: AsyncClient) -> None:
    session = await client.session("steps")
    async with session:
        await session.step(np.zeros(3))
    async with client.sessions("steps", count=2) as group:
        assert (await group.step(np.zeros((2, 3)))).shape == (2, 2)
    group = await client.sessions("steps", count=2)
    assert {info.id for info in await client.list_sessions()} >= set(group.ids)


async def test_steps_asked_at_once_of_one_session_keep_their_order(
    client: AsyncClient, small_models: SmallModels
) -> None:
    (row,) = sequences(12)
    async with client.session("steps") as session:
        outputs = await asyncio.gather(*(session.step(sample) for sample in row))
    np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(row)[0])


async def test_steps_that_wait_while_their_session_is_closed_are_all_told(client: AsyncClient) -> None:
    sample = sequences(1)[0][0]
    session = await client.session("steps")
    first = asyncio.create_task(session.step(sample))
    await asyncio.sleep(0)
    closing = asyncio.create_task(session.close())
    # If each step were started by the one before it, so many would overflow the stack.
    rest = [asyncio.create_task(session.step(sample)) for _ in range(2000)]
    async with asyncio.timeout(60):
        await asyncio.gather(first, closing)
        told = await asyncio.gather(*rest, return_exceptions=True)
    assert {type(outcome) for outcome in told} == {SessionNotFound}


async def test_steps_that_wait_while_their_group_is_closed_are_all_told(client: AsyncClient) -> None:
    samples = sequences(2)[0]
    group = await client.sessions("steps", count=2)
    first = asyncio.create_task(group.step(samples))
    await asyncio.sleep(0)
    closing = [asyncio.create_task(group.close()) for _ in range(2)]
    rest = [asyncio.create_task(group.step(samples)) for _ in range(2000)]
    async with asyncio.timeout(60):
        await asyncio.gather(first, *closing)
        told = await asyncio.gather(*rest, return_exceptions=True)
    assert {type(outcome) for outcome in told} == {SessionNotFound}


async def test_after_a_cancelled_step_the_session_goes_on(
    client: AsyncClient, small_models: SmallModels
) -> None:
    (row,) = sequences(9)
    async with client.session("steps") as session:
        for sample in row[:8]:
            waiting = asyncio.create_task(session.step(sample))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        output = await session.step(row[8])
        applied = session.position - 1
    # Each of the eight steps was applied or not; the position tells how many were.
    possible = [
        small_models.find("steps").run(row[[*kept, 8]])[0][-1]
        for kept in itertools.combinations(range(8), applied)
    ]
    assert any(np.array_equal(output, expected) for expected in possible)


async def test_streams_take_both_kinds_of_iterables(client: AsyncClient, small_models: SmallModels) -> None:
    (row,) = sequences(6)

    async def samples() -> AsyncIterator[Floats]:
        for sample in row:
            yield sample

    for source in (samples(), row):
        async with client.session("steps") as session:
            outputs = [output async for output in session.stream(source)]
        np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(row)[0])


async def test_a_timeout_that_is_long_enough_does_nothing(client: AsyncClient) -> None:
    async with client.session("steps") as session:
        assert (await session.step(np.zeros(3), timeout=30)).shape == (2,)
        assert (await client.predict("steps", np.zeros((2, 3)), timeout=30)).shape == (2, 2)


def step_batchers() -> list[StepBatcher]:
    """All step batchers of the process that something refers to."""
    gc.collect()
    return [kept for kept in gc.get_objects() if type(kept) is StepBatcher]


async def test_a_timeout_of_its_own_for_every_step_does_not_add_up(client: AsyncClient) -> None:
    sample = sequences(1)[0][0]
    others = {id(batcher) for batcher in step_batchers()}  # of clients of other tests
    async with client.session("steps") as session:
        await asyncio.gather(*(session.step(sample, timeout=60 + number) for number in range(100)))
        batchers = [batcher for batcher in step_batchers() if id(batcher) not in others]
    assert session.position == 100
    assert 0 < len(batchers) <= 65  # 64 that may be kept, and the session's own


async def test_no_answer_is_a_timeout(relay: Relay) -> None:
    async with AsyncClient(relay.address) as client:
        session = await client.session("steps", id="slow")
        relay.hold_replies()
        with pytest.raises(Timeout):
            await session.step(np.zeros(3), timeout=0.2)
        with pytest.raises(Timeout):
            await client.predict("steps", np.zeros((2, 3)), timeout=0.2)
        relay.cut()
        await (await client.resume("slow")).close()


async def test_closing_ends_what_waits_and_leaves_no_task(relay: Relay) -> None:
    client = AsyncClient(relay.address)
    session = await client.session("steps", id="interrupted")
    relay.hold_replies()
    waiting = asyncio.create_task(session.step(np.zeros(3)))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(Unavailable, match="client is closed"):
        await waiting
    left = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert not [name for name in left if name.startswith("AwaitingShell")]
    relay.cut()


async def test_closing_that_is_cancelled_still_ends_everything(relay: Relay) -> None:
    client = AsyncClient(relay.address)
    session = await client.session("steps")
    relay.hold_replies()
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)  # the requests that close sessions are sent and get no answer
    closing.cancel()
    await asyncio.wait((closing,))
    assert closing.cancelled()
    with pytest.raises(Unavailable, match="client is closed"):
        await session.step(np.zeros(3))
    left = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert not [name for name in left if name.startswith("AwaitingShell")]
    relay.cut()


async def test_calls_under_way_when_the_client_is_closed_say_so(relay: Relay) -> None:
    client = AsyncClient(relay.address)
    await client.model("steps")
    watching = client.watch_stats(interval=3600)
    await anext(watching)
    relay.hold_replies()
    x = np.zeros((2, 3))
    calls = [client.predict("steps", x), anext(client.score("steps", [x])), client.models(), anext(watching)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    await client.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the client is closed; make a new one"] * 4
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    relay.cut()


def test_a_client_may_be_made_before_its_loop_runs(address: str) -> None:
    client = AsyncClient(address)

    async def main() -> None:
        async with client:
            assert (await client.predict("steps", np.zeros((2, 3)))).shape == (2, 2)

    asyncio.run(main())


async def test_what_it_is_can_be_read(address: str) -> None:
    client = AsyncClient(address)
    assert repr(client) == f"<AsyncClient of {address}>"
    async with client, client.session("steps", id="read") as session:
        group = await client.sessions("steps", ids=["alone"])
        await group.close()
        await session.close()
    model = f"steps/{session.model.version}"
    assert repr(client) == f"<AsyncClient of {address}, closed>"
    assert repr(session) == f"<AsyncSession 'read' of {model} at 0, {address}>"
    assert repr(group) == f"<AsyncSessionGroup of 1 session 'alone' of {model}, {address}>"
