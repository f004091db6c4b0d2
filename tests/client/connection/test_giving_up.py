"""Ends calls early: by cancelling, timeouts, breaking off, closing. The server stops working on them."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.connection.endless import Endless, endless_server
from tests.helpers.models.small import SmallModels

from statewise.client import AsyncClient, Timeout, Unavailable


@pytest.fixture
def endless() -> Iterator[Endless]:
    with endless_server() as endless:
        yield endless


async def test_a_prediction_that_is_cancelled(endless: Endless) -> None:
    async with AsyncClient(endless.address) as client:
        waiting = asyncio.create_task(client.predict("any", np.zeros((2, 3))))
        await asyncio.to_thread(endless.began.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(endless.given_up.wait)


def test_a_prediction_whose_time_is_over(clients: Clients, endless: Endless) -> None:
    with pytest.raises(Timeout, match="larger timeout"):
        clients.connect(endless.address).predict("any", np.zeros((2, 3)), timeout=0.3)
    endless.given_up.wait()


def test_a_generation_that_is_left(clients: Clients, endless: Endless) -> None:
    values = clients.connect(endless.address).generate("any", steps=9)
    assert next(values).shape == (3,)
    endless.began.wait()
    values.close()
    endless.given_up.wait()


async def test_a_step_that_is_cancelled_is_not_applied(address: str, small_models: SmallModels) -> None:
    long = np.random.default_rng(8).standard_normal((200_000, 3)).astype(np.float32)
    async with AsyncClient(address) as client, client.session("steps") as session:
        async with client.session("steps") as other:
            waiting = asyncio.create_task(session.step(long))
            await asyncio.sleep(0)
            await other.step(long[0])  # the server reads in order, so it has the long one too
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        output = await session.step(long[0])
        assert session.position == 1
    np.testing.assert_array_equal(output, small_models.find("steps").run(long[:1])[0][0])


@pytest.mark.parametrize("call", ["predict", "generate"])
def test_a_call_under_way_when_the_client_is_closed_says_so(
    clients: Clients, endless: Endless, call: str
) -> None:
    client = clients.connect(endless.address)
    with ThreadPoolExecutor(1) as pool:
        if call == "predict":
            waiting = pool.submit(client.predict, "any", np.zeros((2, 3)))
        else:
            waiting = pool.submit(list, client.generate("any", steps=9))
        endless.began.wait()
        client.close()
        with pytest.raises(Unavailable, match="the client is closed"):
            waiting.result()


def test_options_of_the_channel_are_passed_on(clients: Clients, endless: Endless) -> None:
    clients.connect(endless.address, channel_options={"grpc.primary_user_agent": "gauge/7"}).server()
    assert str(endless.user_agent).startswith("gauge/7")
