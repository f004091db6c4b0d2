"""Cuts connections and drops replies: no step is lost, and none is applied twice."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.relay import Relay
from tests.client.restarts import RestartableServer
from tests.client.samples import sequences, wait_for_positions
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import (
    Client,
    InvalidInput,
    Session,
    Timeout,
    Unavailable,
)


def test_a_reply_that_was_lost_comes_again_with_the_same_bits(
    clients: Clients, client: Client, relay: Relay, small_models: SmallModels, x: Floats
) -> None:
    session = clients.connect(relay.address).session("steps", id="cut off")
    outputs = [session.step(x[0])]
    relay.hold_replies()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(session.step, x[1:4])
        wait_for_positions(client, {"cut off": 4})
        relay.cut()
        outputs.extend(waiting.result())
    outputs.extend(session.step(x[4:]))
    np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(x)[0])
    session.close()


def test_a_group_survives_a_cut(
    clients: Clients, client: Client, relay: Relay, small_models: SmallModels
) -> None:
    batch = np.stack(sequences(4, 4, 4))
    with clients.connect(relay.address).sessions("steps", count=3) as group:
        outputs = [group.step(batch[:, 0])]
        relay.hold_replies()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(group.step, batch[:, 1])
            wait_for_positions(client, dict.fromkeys(group.ids, 2))
            relay.cut()
            outputs.append(waiting.result())
        outputs += [group.step(batch[:, 2]), group.step(batch[:, 3])]
    for row, output in zip(batch, np.stack(outputs, axis=1), strict=True):
        np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])


def test_an_address_where_nobody_listens(clients: Clients) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        clients.connect("127.0.0.1:1").models()


def test_a_server_that_stays_away(repository: Path, clients: Clients, x: Floats) -> None:
    with RestartableServer(repository) as server:
        client = clients.connect(server.address, reconnect_s=0.2)
        session = client.session("steps")
        session.step(x[0])
        server.stop()
        with pytest.raises(Unavailable):
            session.step(x[1])


def test_a_step_that_gets_no_answer_in_time(
    clients: Clients, relay: Relay, small_models: SmallModels, x: Floats
) -> None:
    session = clients.connect(relay.address).session("steps")
    outputs = [session.step(x[0])]
    relay.hold_replies()
    with pytest.raises(Timeout, match="larger timeout") as caught:
        session.step(x[1], timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    relay.cut()
    begin = 1 + _applied_steps(session, x)
    outputs.extend(session.step(x[begin:]))
    expected = small_models.find("steps").run(x)[0]
    np.testing.assert_array_equal(outputs[1:], expected[begin:])


def test_a_closed_client_says_so(clients: Clients, address: str, x: Floats) -> None:
    client = clients.connect(address)
    session = client.session("steps", id="left open")
    client.close()
    client.close()
    for call in (client.models, lambda: session.step(x), lambda: client.predict("steps", x)):
        with pytest.raises(Unavailable, match="the client is closed"):
            call()
    clients.connect(address).resume("left open").close()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none(client: Client, timeout: float) -> None:
    with pytest.raises(InvalidInput, match="timeout: expected more than 0 s"):
        client.models(timeout=timeout)


def _applied_steps(session: Session, x: Floats) -> int:
    """Returns how many time steps the request that timed out applied; the next operation finds out."""
    session.snapshot()
    return int(session.position) - 1
