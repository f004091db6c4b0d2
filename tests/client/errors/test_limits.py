"""Goes beyond limits of size and time: each exception says which limit and what to do."""

from pathlib import Path

import numpy as np
from tests.client.clients import Clients
from tests.client.errors.expectations import SAMPLE, raises

from statewise.client import (
    Client,
    InvalidInput,
    LimitReached,
    Overloaded,
    Timeout,
    Unavailable,
)
from statewise.service.testing import server_in_thread


def test_a_full_queue(clients: Clients, repository: Path) -> None:
    client = clients.serve(repository, queue_steps=100)
    with raises(Overloaded, "100", "try again in") as caught:
        client.predict("steps", np.zeros((200, 3)))
    assert caught.value.retry_after_s > 0
    assert str(caught.value).count("try again") == 1


def test_sessions(clients: Clients, repository: Path) -> None:
    client = clients.serve(repository, sessions=2)
    kept = [client.session("steps") for _ in range(2)]
    with raises(LimitReached, "2 sessions are open.* close some", "server().limits shows"):
        client.session("steps").step(SAMPLE)
    for session in kept:
        session.close()


def test_bytes_of_state(clients: Clients, repository: Path) -> None:
    client = clients.serve(repository, state_bytes=200)
    with client.session("steps"), raises(LimitReached, "bytes: close some", "server().limits shows"):
        client.session("steps").step(SAMPLE)


def test_time_steps_of_a_request(clients: Clients, repository: Path) -> None:
    client = clients.serve(repository, request_steps=50)
    with raises(LimitReached, "got 51", "server().limits shows"):
        client.predict("steps", np.zeros((51, 3)))


def test_a_missing_value_in_a_long_sequence_is_found_before_a_request_is_applied(
    clients: Clients, repository: Path
) -> None:
    session = clients.serve(repository, request_steps=50).session("steps")
    samples = np.zeros((120, 3))
    samples[110, 2] = np.nan
    with raises(InvalidInput, r"a missing value \(nan\) at step 110, column 2", "expected finite numbers"):
        session.step(samples)
    assert session.position == 0
    samples[110, 2] = 1
    assert len(session.step(samples)) == 120


def test_a_message_that_the_transport_refuses(repository: Path, clients: Clients) -> None:
    with server_in_thread(repository) as address:
        client = clients.connect(address)
        client.server()  # the client now knows the old limits
    with server_in_thread(repository, listen=address, message_bytes=64 * 1024):
        until_reached(client)
        with raises(LimitReached, "larger than max", "server().limits shows"):
            client.predict("steps", np.zeros((20_000, 3)))


def test_a_deadline(clients: Clients, repository: Path) -> None:
    client = clients.serve(repository, message_bytes=64 * 1024 * 1024)
    with raises(Timeout, ".", "pass a larger timeout="):
        client.predict("last", np.zeros((1_000_000, 3)), timeout=0.1)
    with client.session("steps") as session:
        with raises(Timeout, ".", "whether a step was applied"):
            session.step(np.zeros((1_000_000, 3)), timeout=0.1)
        session.step(SAMPLE)
        assert session.position == 1


def until_reached(client: Client) -> None:
    while True:
        try:
            client.models()
        except Unavailable:
            continue
        return
