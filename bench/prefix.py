"""Measures what shared prefixes save, and what they cost where nothing is shared: `python -m bench.prefix`.

Sessions open with one beginning of 2,048 steps and then differ: one after another, all at once, and with the
beginning as the prompt of Generate. The server's own counter of computed steps tells how many steps of the
beginning were computed, all sessions together; the result is that number as a multiple of one beginning's
steps. Then servers with and without the tree run in turns while all beginnings are different; the result is
the median of the ratios of their CPU.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench.harness import (
    Report,
    Served,
    interleaved,
    medians,
    pin_client,
    serving,
    statewise_server,
    wait_until_quiet,
    write_json,
)
from bench.models import lstm_repository
from bench.scraping import free_address, scrape

from statewise.client import AsyncClient
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec

BEGINNING, OWN = 2048, 16
"""Time steps of the beginning, a multiple of the chunk, and those of each session after it."""
_SIZE = 64
_MODEL, _WRITER = f"lstm{_SIZE}", "writer"
_TOKENS = 28
_CPU_AIM = 1.05
_AIMS = {"one after another": 1.05, "all at once": 1.3}
_PREFIX_BYTES = 64 * 1024 * 1024
"""Full after the warm-up turn: from then on every beginning that comes makes others go."""

Beginnings = Sequence[np.ndarray]


def repository(root: Path) -> Path:
    """Writes an LSTM with an output a step, and a network that writes tokens."""
    spec = NetworkSpec(
        input_size=_TOKENS + 1,
        output_size=_TOKENS,
        cell="lstm",
        hidden_size=_SIZE,
        embedding_size=24,
        head="softmax",
        call_shape="one_to_many",
    )
    network = Network.initialise(spec, rng=np.random.default_rng(0))
    export_checkpoint(Checkpoint(network=network), root, name=_WRITER)
    return lstm_repository(root, _SIZE)


async def step(client: AsyncClient, beginning: np.ndarray, own: np.ndarray) -> None:
    """Opens a session, sends the beginning and then its own steps."""
    async with client.session(_MODEL) as session:
        await session.step(beginning)
        await session.step(own)


async def generate(client: AsyncClient, beginning: np.ndarray, own: np.ndarray) -> None:
    """Generates from the beginning and some more tokens."""
    prompt = np.concatenate([beginning, own])
    async for _ in client.generate(_WRITER, prompt=prompt, steps=1, temperature=1.0, seed=1):
        pass


Request = Callable[[AsyncClient, np.ndarray, np.ndarray], Awaitable[None]]


def vectors(random: np.random.Generator, steps: int) -> np.ndarray:
    """Draws inputs of the LSTM."""
    return random.standard_normal((steps, _SIZE)).astype(np.float32)


def tokens(random: np.random.Generator, steps: int) -> np.ndarray:
    """Draws tokens."""
    return random.integers(0, _TOKENS, steps).astype(np.int64)


async def run(
    served: Served, request: Request, beginnings: Beginnings, owns: Beginnings, *, at_once: bool
) -> None:
    """Makes requests, one after another or all at once."""
    async with AsyncClient(served.address) as client:
        if at_once:
            await asyncio.gather(*(request(client, *one) for one in zip(beginnings, owns, strict=True)))
            return
        for one in zip(beginnings, owns, strict=True):
            await request(client, *one)


def shared(runner: asyncio.Runner, served: Served, metrics: str, *, sessions: int) -> tuple[Report, bool]:
    """Counts the steps of a shared beginning that are computed. Returns whether all aims are met."""
    report, met = Report(f"{sessions} sessions that open with the same {BEGINNING} steps"), True
    print(f"\n{report.title}: computed, in beginnings", file=sys.stderr)
    random = np.random.default_rng(7)
    kinds: dict[str, tuple[Request, Callable[[np.random.Generator, int], np.ndarray], int]] = {
        "sessions": (step, vectors, OWN),
        "Generate": (generate, tokens, OWN + 1),  # and the token that it emits
    }
    for kind, (request, draw, own_steps) in kinds.items():
        for how, aim in _AIMS.items():
            beginnings = [draw(random, BEGINNING)] * sessions
            owns = [draw(random, OWN) for _ in range(sessions)]
            before = scrape(metrics)
            runner.run(run(served, request, beginnings, owns, at_once=how == "all at once"))
            after = scrape(metrics)
            change = {name: after[name] - before[name] for name in _COUNTED}
            computed = change["statewise_run_steps_total"] - sessions * own_steps
            hits, misses = change["statewise_prefix_hits_total"], change["statewise_prefix_misses_total"]
            met &= report.judge(
                f"{kind}, {how}",
                aim=aim,
                beginnings=computed / BEGINNING,
                hit_rate=hits / (hits + misses),
                kept_kib=change["statewise_prefix_bytes"] / 1024,
                nodes=change["statewise_prefix_nodes"],
            )
    report.add("resident", mb=served.resident_bytes() / 1e6, kept_mb=after["statewise_prefix_bytes"] / 1e6)
    return report, met


_COUNTED = (
    "statewise_run_steps_total",
    "statewise_prefix_hits_total",
    "statewise_prefix_misses_total",
    "statewise_prefix_bytes",
    "statewise_prefix_nodes",
)


def turn(
    runner: asyncio.Runner,
    served: Served,
    request: Request,
    draw: Callable[..., np.ndarray],
    *,
    sessions: int,
    at_once: bool,
) -> dict[str, float]:
    """Makes requests whose beginnings are all different; measures the server's CPU until it is quiet."""
    random = np.random.default_rng()
    beginnings = [draw(random, BEGINNING) for _ in range(sessions)]
    owns = [draw(random, OWN) for _ in range(sessions)]
    cpu_s = served.cpu_s()
    runner.run(run(served, request, beginnings, owns, at_once=at_once))
    wait_until_quiet(served)
    return {"cpu_ms": (served.cpu_s() - cpu_s) / sessions * 1e3}


def different(
    runner: asyncio.Runner, found: dict[str, Served], *, sessions: int, rounds: int
) -> tuple[Report, bool]:
    """Compares the CPU of a session with the tree and without. Returns whether all aims are met."""
    report, met = Report(f"{sessions} sessions whose first {BEGINNING} steps are all different"), True
    kinds: dict[str, tuple[Request, Any, bool]] = {
        "sessions, one after another": (step, vectors, False),
        "sessions, all at once": (step, vectors, True),
        "Generate, one after another": (generate, tokens, False),
        "Generate, all at once": (generate, tokens, True),
    }
    for kind, (request, draw, at_once) in kinds.items():
        print(f"\n{report.title}: {kind}, {rounds} turns each", file=sys.stderr)
        measures = {
            name: partial(turn, runner, served, request, draw, sessions=sessions, at_once=at_once)
            for name, served in found.items()
        }
        samples = interleaved(measures, rounds=rounds)
        for name, turns in samples.items():
            report.add(f"{kind}, {name}", **medians(turns))
        pairs = zip(samples["with the tree"], samples["without"], strict=True)
        ratios = [one["cpu_ms"] / other["cpu_ms"] for one, other in pairs]
        met &= report.judge(
            f"ratio, {kind}", aim=_CPU_AIM, cpu=median(ratios), lowest=min(ratios), highest=max(ratios)
        )
    return report, met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sessions", type=int, default=256, help="sessions that open alike")
    parser.add_argument("--others", type=int, default=64, help="sessions of a turn that open differently")
    parser.add_argument("--rounds", type=int, default=15, help="measured turns, after one warm-up turn")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if an aim is missed")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    pin_client()
    with ExitStack() as stack:
        models = repository(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        metrics = free_address()
        tree = {"STATEWISE_PREFIX_BYTES": str(_PREFIX_BYTES)}
        command = partial(statewise_server, models)
        found = {
            "with the tree": stack.enter_context(serving(command("--metrics-listen", metrics), **tree)),
            "without": stack.enter_context(serving(command())),
        }
        runner = stack.enter_context(asyncio.Runner())
        reports = [shared(runner, found["with the tree"], metrics, sessions=options.sessions)]
        reports.append(different(runner, found, sessions=options.others, rounds=options.rounds))
    if options.json:
        write_json(options.json, [report for report, _ in reports])
    if options.strict and not all(met for _, met in reports):
        sys.exit(1)


if __name__ == "__main__":
    main()
