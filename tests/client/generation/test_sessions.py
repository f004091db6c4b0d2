"""Generates with sessions through both clients; the training side is the oracle."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.generation.oracle import X, answer, find_seed, spell
from tests.client.relay import Relay
from tests.client.restarts import RestartableServer
from tests.client.samples import wait_for_positions

from statewise.client import AsyncClient, Client, InvalidInput, SessionLost, Timeout, Unavailable


def test_a_session_goes_on_from_what_it_said(client: Client) -> None:
    seed = find_seed(12, ended=False)
    expected = answer("letters", [X], 12, seed=seed)
    with client.session("letters") as session:
        tokens = list(session.generate(steps=5, seed=seed, text=False))
        assert session.position == 6  # the begin token, and five values
        twin = session.fork()
        text = "".join(session.generate(steps=7, seed=seed))
        assert session.position == 13
        assert [int(token) for token in tokens] == expected[:5]
        assert text == spell(expected[5:])
        session.rewind()
        assert session.position == 6
        assert "".join(session.generate(steps=7, seed=seed)) == text
        assert "".join(twin.generate(steps=7, seed=seed)) == text
        twin.close()


def test_an_end_is_emitted_and_not_consumed(client: Client) -> None:
    seed = find_seed(12, ended=True)
    with client.session("letters") as session:
        tokens = list(session.generate(steps=12, seed=seed, text=False))
        assert tokens[-1] == 0
        assert session.position == len(tokens)  # the begin token stands for the end


def test_steps_and_generations_take_turns(client: Client) -> None:
    prompt = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    with client.session("wave") as session:
        session.step(prompt)
        values = np.stack(list(session.generate(steps=4)))
        after = session.step(prompt[0])
    whole = client.predict("wave", np.concatenate([prompt, values, prompt[:1]]))
    np.testing.assert_array_equal(after, whole[-1])


def test_a_session_with_nothing_to_go_on_from_is_told_what_to_do(client: Client) -> None:
    with client.session("wave") as session, pytest.raises(InvalidInput, match="step it first"):
        list(session.generate(steps=4))


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_left_early_it_stands_behind_what_was_taken(client: Client, taken: int) -> None:
    seed = find_seed(12, ended=False)
    expected = answer("letters", [X], 12, seed=seed)
    with client.session("letters") as session:
        list(session.generate(steps=2, seed=seed))
        values = session.generate(steps=10, seed=seed, text=False)
        first = [int(token) for token in islice(values, taken)]
        values.close()
        assert first == expected[2 : 2 + taken]
        assert session.position == 3 + taken
        rest = session.generate(steps=10 - taken, seed=seed, text=False)
        assert [int(token) for token in rest] == expected[2 + taken :]


def test_left_in_the_middle_the_server_stops_and_the_session_goes_on(client: Client) -> None:
    expected = answer("chatter", [X], 60, seed=5)
    with client.session("chatter") as session:
        values = session.generate(steps=1_000_000, seed=5, text=False)
        first = [int(token) for token in islice(values, 50)]
        values.close()
        assert session.position == 51
        rest = [int(token) for token in session.generate(steps=10, seed=5, text=False)]
    assert first + rest == expected


def test_when_the_time_is_over_it_stands_behind_what_was_taken(client: Client) -> None:
    taken: list[object] = []
    with client.session("chatter") as session:
        session.step(np.int64(X))
        with pytest.raises(Timeout):
            taken.extend(session.generate(steps=1_000_000, timeout=0.2, text=False))
        session.snapshot()
        assert session.position == 1 + len(taken)


def test_a_connection_that_breaks_gives_no_value_twice(
    clients: Clients, client: Client, relay: Relay
) -> None:
    expected = answer("chatter", [X], 40, seed=5)
    session = clients.connect(relay.address).session("chatter", id="breaks off")
    tokens = list(session.generate(steps=10, seed=5, text=False))
    relay.hold_replies()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, session.generate(steps=30, seed=5, text=False))
        wait_for_positions(client, {"breaks off": 41})
        relay.cut()
        tokens += waiting.result()
    assert [int(token) for token in tokens] == expected
    assert session.position == 41
    session.close()


def test_a_server_that_lost_it_gets_it_back(generative: Path, clients: Clients) -> None:
    expected = answer("chatter", [X, 3], 40, seed=5)
    with RestartableServer(generative) as server:
        session = clients.connect(server.address).session("chatter")
        session.step(np.int64(X))
        session.step(np.int64(3))
        tokens = list(session.generate(steps=10, seed=5, text=False))
        tokens += islice(session.generate(steps=20, seed=5, text=False), 5)
        server.restart()
        tokens += session.generate(steps=25, seed=5, text=False)
        assert session.position == 42
    assert [int(token) for token in tokens] == expected


def test_without_a_journal_it_is_lost(generative: Path, clients: Clients) -> None:
    with RestartableServer(generative) as server:
        session = clients.connect(server.address, replay_bytes=0).session("chatter")
        list(session.generate(steps=10))
        server.restart()
        with pytest.raises(SessionLost):
            list(session.generate(steps=10))


@pytest.mark.parametrize("steps", [20, 1_000_000])
async def test_what_is_asked_after_a_break_comes_after_it(address: str, steps: int) -> None:
    expected = answer("chatter", [X], 10, seed=5)
    async with AsyncClient(address) as client, client.session("chatter") as session:
        tokens = []
        async with aclosing(session.generate(steps=steps, seed=5, text=False)) as values:
            async for token in values:
                tokens.append(int(token))
                if len(tokens) == 4:
                    break
        assert session.position == 5
        tokens += [int(token) async for token in session.generate(steps=6, seed=5, text=False)]
    assert tokens == expected


async def test_a_break_alone_is_seen_to_before_what_is_asked_meanwhile(address: str) -> None:
    async with AsyncClient(address) as client, client.session("chatter") as session:
        async for _ in session.generate(steps=1_000_000, text=False):
            break
        twin = await session.fork()
        assert twin.position == session.position == 2
        await twin.close()


def test_a_generation_that_outlives_every_connection_is_told_and_fits_in_parts(
    clients: Clients, address: str
) -> None:
    steps = 3_000
    expected = answer("chatter", [X], steps, seed=5)
    relay = Relay(address, reply_bytes=8_000)  # the values alone are more bytes
    client = clients.connect(relay.address, reconnect_s=0.2)
    try:
        session = client.session("chatter")
        come: list[int] = []
        with pytest.raises(Unavailable, match=r"values came, .* ask for fewer steps at a time"):
            come.extend(int(token) for token in session.generate(steps=steps, seed=5, text=False))
        assert come == expected[: len(come)]
    finally:
        client.close()
        relay.close()
    patient = clients.connect(address).session("chatter")
    parts = [token for _ in range(3) for token in patient.generate(steps=1_000, seed=5, text=False)]
    assert [int(token) for token in parts] == expected
