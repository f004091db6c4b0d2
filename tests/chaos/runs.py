"""Runs programs beside each other while a test does something to the server, and gives their outputs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tests.chaos.programs import Progress, Run, programs, run_counted
from tests.client.clients import Clients

from statewise.client import AsyncClient, Client

Outputs = dict[str, list[NDArray[np.generic]]]
REPLAY_BYTES = 65_536
RECONNECT_S = 120.0


def run_programs(
    address: str,
    *,
    count: int,
    requests: int,
    seed: int,
    disturb: Callable[[Progress], None] | None = None,
) -> Outputs:
    """Runs programs to their end: half of them in threads, half as tasks of an event loop.

    Args:
        address: HOST:PORT of the server.
        count: Programs.
        requests: Requests of each.
        seed: Decides what the programs do.
        disturb: Called in this thread while they run.

    Returns:
        The outputs of each program by its name.
    """
    made = [Clients(Client), Clients(AsyncClient)]
    progress = Progress()
    try:
        connected = [
            kind.connect(address, replay_bytes=REPLAY_BYTES, reconnect_s=RECONNECT_S) for kind in made
        ]
        with ThreadPoolExecutor(count) as pool:
            waiting = {}
            for number, (name, program) in enumerate(programs(count)):
                run = Run(connected[number // 6 % 2], name, seed + number, requests, progress)
                progress.begin()
                waiting[name] = pool.submit(run_counted, run, program)
            if disturb is not None:
                disturb(progress)
            return {name: outputs.result() for name, outputs in waiting.items()}
    finally:
        for kind in made:
            kind.close()


def assert_same(actual: Outputs, expected: Outputs) -> None:
    """Asserts that each program got the same outputs, bit for bit, in the same order, each once."""
    assert actual.keys() == expected.keys()
    for name, outputs in actual.items():
        assert len(outputs) == len(expected[name]), name
        for number, (one, other) in enumerate(zip(outputs, expected[name], strict=True)):
            assert one.tobytes() == other.tobytes(), f"{name}: output {number} differs"
