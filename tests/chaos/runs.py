"""Runs programs beside each other while a test does something to the server, and gives their outputs."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tests.chaos.programs import PROGRAMS, Program, Progress, Run, programs, run_counted
from tests.client.clients import Clients

from statewise.client import AsyncClient, Client

Runs = dict[str, Run]
REPLAY_BYTES = 65_536
RECONNECT_S = 120.0


def run_programs(
    address: str,
    *,
    count: int,
    requests: int | Mapping[str, Run] | None,
    seed: int,
    kinds: Sequence[Program] = PROGRAMS,
    disturb: Callable[[Progress], None] | None = None,
) -> Runs:
    """Runs programs to their end: half of them in threads, half as tasks of an event loop.

    Args:
        address: HOST:PORT of the server.
        count: Programs.
        requests: Requests of each; as many as in these runs; None: until `disturb` returns.
        seed: Decides what the programs do.
        kinds: Which programs.
        disturb: Called in this thread while they run.

    Returns:
        The runs by the names of the programs, with their outputs.
    """
    made = [Clients(Client), Clients(AsyncClient)]
    progress = Progress()
    try:
        connected = [
            kind.connect(address, replay_bytes=REPLAY_BYTES, reconnect_s=RECONNECT_S) for kind in made
        ]
        with ThreadPoolExecutor(count) as pool:
            waiting = {}
            for number, (name, program) in enumerate(programs(count, kinds)):
                asked = requests[name].asked if isinstance(requests, Mapping) else requests
                run = Run(connected[number // len(kinds) % 2], name, seed + number, asked, progress)
                progress.begin()
                waiting[name] = pool.submit(run_counted, run, program)
            try:
                if disturb is not None:
                    disturb(progress)
            finally:
                progress.over = True
            return {name: run.result() for name, run in waiting.items()}
    finally:
        for kind in made:
            kind.close()


def moments(count: int, answers: int, seed: int) -> list[int]:
    """Draws numbers of answers after which something happens, ascending, among so many that programs get."""
    random = np.random.default_rng(seed)
    return sorted(int(moment) for moment in random.integers(answers // 100, answers * 4 // 5, count))


def assert_same(actual: Runs, expected: Runs) -> None:
    """Asserts that each program got the same outputs, bit for bit, in the same order, each once."""
    assert actual.keys() == expected.keys()
    for name, run in actual.items():
        outputs = expected[name].outputs
        assert len(run.outputs) == len(outputs), name
        for number, (one, other) in enumerate(zip(run.outputs, outputs, strict=True)):
            assert one.tobytes() == other.tobytes(), f"{name}: output {number} differs"
