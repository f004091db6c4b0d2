"""Steps from many threads, which share a client, a session, or neither."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tests.client.clients import Clients
from tests.client.samples import sequences
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import Client


def test_threads_share_a_client(client: Client, small_models: SmallModels) -> None:
    rows = sequences(*[15] * 16)

    def run(row: Floats) -> Floats:
        with client.session("steps") as session:
            return np.stack([session.step(sample) for sample in row])

    with ThreadPoolExecutor(16) as pool:
        for row, output in zip(rows, pool.map(run, rows), strict=True):
            np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])


def test_threads_that_share_a_session_take_turns(client: Client, x: Floats) -> None:
    with client.session("steps") as session, ThreadPoolExecutor(8) as pool:
        list(pool.map(session.step, [x] * 24))
        assert session.position == 24 * 20


def test_64_clients_at_once_get_what_each_gets_alone(
    clients: Clients, address: str, small_models: SmallModels
) -> None:
    rows = sequences(*[12] * 64)
    barrier = threading.Barrier(64)

    def run(row: Floats) -> Floats:
        client = clients.connect(address)
        with client.session("steps") as session:
            barrier.wait()
            return np.stack([session.step(sample) for sample in row])

    with ThreadPoolExecutor(64) as pool:
        outputs = list(pool.map(run, rows))
    for row, output in zip(rows, outputs, strict=True):
        np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])
