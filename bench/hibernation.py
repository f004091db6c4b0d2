"""Measures sessions that sleep in a store: `python -m bench.hibernation`.

A server that may hold 10,000 sessions opens a million of them and steps each once. Then all of them wake in
random order: by handle, by id, and in step batches of 1,024. Every output is compared bit for bit with that
of the graph alone. The results are the server's memory along the way, the latency of a waking step relative
to the next step of the same session, and the time of a start with all sessions asleep relative to one with a
thousand.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from bench.harness import (
    Report,
    Served,
    interleaved,
    medians,
    percentiles_us,
    pin_client,
    serving,
    statewise_server,
    wait_until_quiet,
    write_json,
)
from bench.models import lstm_repository
from bench.redis_server import redis_server
from bench.scraping import free_address, scrape
from bench.sleepers import SIZE, Numbers, Reference, Sleepers, connected, groups

_BATCH = 1024
_RESUMED_TOGETHER = 256
_FEW = 1_000
_MIB = 2**20
_FOLDED_S = 300.0
"""How long the store may take to fold its log before latencies are measured."""
GROWTH_AIM, LATENCY_AIM, START_AIM = 1.1, 5.0, 1.5


@dataclass(frozen=True)
class Server:
    """A server whose memory holds few sessions.

    Attributes:
        served: The process.
        metrics: Address of its metrics.
        started_s: Seconds from the start of the process until it listened.
    """

    served: Served
    metrics: str
    started_s: float

    def figures(self) -> dict[str, float]:
        """Returns its memory, and how many sessions are awake."""
        return {
            "resident_mib": self.served.resident_bytes() / _MIB,
            "awake": scrape(self.metrics)["statewise_sessions"],
        }


@dataclass(frozen=True)
class Place:
    """Where a store is: what `--store` names, and the prefix of its keys, which Redis alone has."""

    store: str
    prefix: str


@contextmanager
def started(repository: Path, place: Place, limit: int) -> Iterator[Server]:
    """Starts a server with a store that may hold `limit` sessions; it writes what it owes at the end."""
    metrics = free_address()
    command = statewise_server(repository, "--store", place.store, "--metrics-listen", metrics)
    settings = {"STATEWISE_SESSIONS": str(limit), "STATEWISE_STORE_PREFIX": place.prefix}
    begun_s = time.perf_counter()
    with serving(command, **settings) as served:
        yield Server(served, metrics, time.perf_counter() - begun_s)


async def fall_asleep(server: Server, sleepers: Sleepers, *, group: int) -> Report:
    """Opens all sessions and steps each once; reports the server's memory ten times."""
    report = Report(f"{len(sleepers.handles):,} sessions are opened and stepped once")
    print(f"\n{report.title}", file=sys.stderr)
    done, begun_s = 0, time.perf_counter()
    for tenth in np.array_split(np.arange(len(sleepers.handles)), 10):
        for numbers in groups(tenth, group):
            await sleepers.open(numbers)
        done += len(tenth)
        per_s = done / (time.perf_counter() - begun_s)
        report.add(f"{done:,} opened", **server.figures(), opened_per_s=per_s)
    return report


async def wake(sleepers: Sleepers, numbers: Numbers, size: int) -> dict[str, list[float]]:
    """Steps sessions by handle, `size` in a message: twice each. Returns the latencies of both steps."""
    latencies: dict[str, list[float]] = {"waking": [], "awake": []}
    for some in groups(numbers, size):
        latencies["waking"].append(await sleepers.step(some, 1))
        latencies["awake"].append(await sleepers.step(some, 2))
    return latencies


async def wake_by_id(sleepers: Sleepers, numbers: Numbers) -> dict[str, list[float]]:
    """Resumes sessions by id, many in a message, and steps them twice. Returns the latencies."""
    latencies: dict[str, list[float]] = {"resume": [], "awake": []}
    for some in groups(numbers, _RESUMED_TOGETHER):
        begun_s = time.perf_counter()
        await sleepers.resume(some)
        latencies["resume"].append(time.perf_counter() - begun_s)
        latencies["awake"].append(await sleepers.step(some, 1))
        await sleepers.step(some, 2)
    return latencies


async def wake_all(server: Server, sleepers: Sleepers, order: Numbers, *, singles: int, by_id: int) -> Report:
    """Wakes all sessions in an order, in three ways; reports latencies, and what a waking step costs."""
    report = Report("all wake in random order, each with its own bits")
    print(f"\n{report.title}", file=sys.stderr)
    wait_until_quiet(server.served, most_s=_FOLDED_S)
    alone, resumed, rest = np.split(order, np.cumsum([singles, by_id]))
    found = {"a step by handle": await wake(sleepers, alone, 1)}
    found[f"{_RESUMED_TOGETHER} by id"] = await wake_by_id(sleepers, resumed)
    found[f"{_BATCH} by handle"] = await wake(sleepers, rest, _BATCH)
    for name, latencies in found.items():
        for kind, measured_s in latencies.items():
            report.add(f"{name}, {kind}", **percentiles_us(measured_s), messages=len(measured_s))
    report.add("afterwards", **server.figures())
    return report


async def live(
    server: Server, reference: Reference, options: argparse.Namespace
) -> tuple[Report, Report, bool]:
    """Opens all sessions and wakes them. Returns the figures, and whether the aims are met."""
    channel = connected(server.served.address)
    sleepers = Sleepers(channel, reference, options.sessions)
    asleep = await fall_asleep(server, sleepers, group=options.group)
    order = np.random.default_rng(options.seed).permutation(options.sessions)
    late = order >= options.sessions - options.limit  # the last to be opened are awake: they come last again
    order = np.concatenate([order[~late], order[late]])
    woken = await wake_all(server, sleepers, order, singles=options.singles, by_id=options.by_id)
    await channel.close()
    # The caches of the store are bounded, and full long before the half of a million.
    memory = [float(row["resident_mib"]) for row in asleep.rows]
    asleep.add("memory at the end to a tenth", ratio=memory[-1] / memory[0])
    half = memory[len(memory) // 2 - 1]
    met = asleep.judge("memory at the end to half", aim=GROWTH_AIM, ratio=memory[-1] / half)
    p50 = {str(row["name"]): float(row["p50_us"]) for row in woken.rows if "p50_us" in row}
    ratio = p50["a step by handle, waking"] / p50["a step by handle, awake"]
    met &= woken.judge("a waking step to an awake one, medians", aim=LATENCY_AIM, ratio=ratio)
    batch = f"{_BATCH} by handle"
    woken.add("the same, in batches", ratio=p50[f"{batch}, waking"] / p50[f"{batch}, awake"])
    return asleep, woken, met


async def _open_few(server: Server, reference: Reference, options: argparse.Namespace) -> None:
    channel = connected(server.served.address)
    sleepers = Sleepers(channel, reference, _FEW)
    for numbers in groups(np.arange(_FEW), options.group):
        await sleepers.open(numbers)
    await channel.close()


def compare_starts(
    repository: Path, few: Place, many: Place, options: argparse.Namespace
) -> tuple[Report, bool]:
    """Starts servers in turns, with few and with many sessions asleep."""
    report = Report(f"starts with {_FEW:,} and with {options.sessions:,} sessions asleep")
    print(f"\n{report.title}", file=sys.stderr)

    def start(place: Place) -> dict[str, float]:
        with started(repository, place, options.limit) as server:
            return {"seconds": server.started_s}

    samples = interleaved({"few": partial(start, few), "many": partial(start, many)}, rounds=options.starts)
    for name, found in samples.items():
        report.add(name, **medians(found))
    pairs = zip(samples["many"], samples["few"], strict=True)
    ratios = [one["seconds"] / beside["seconds"] for one, beside in pairs]
    return report, report.judge(
        "ratio", aim=START_AIM, median=median(ratios), lowest=min(ratios), highest=max(ratios)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="sessions that are opened")
    parser.add_argument("--limit", type=int, default=10_000, help="sessions that the server may hold")
    parser.add_argument("--group", type=int, default=4_096, help="sessions that one message opens")
    parser.add_argument("--singles", type=int, default=5_000, help="sessions that wake one by one, by handle")
    parser.add_argument(
        "--by-id", type=int, default=50_000, help="sessions that wake by id; the rest wakes in batches"
    )
    parser.add_argument("--starts", type=int, default=5, help="measured starts, after one of each")
    parser.add_argument("--store", default="sqlite", choices=["sqlite", "redis"], help="kind of the store")
    parser.add_argument(
        "--appendfsync", default="everysec", choices=["always", "everysec", "no"], help="setting of Redis"
    )
    parser.add_argument("--folder", type=Path, help="where the store is, on the disk to measure")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which sessions wake")
    parser.add_argument("--short", action="store_true", help="few sessions and starts")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if an aim is missed")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    if options.short:
        options.sessions, options.limit, options.group, options.starts = 6_000, 1_200, 512, 1
        options.singles, options.by_id = 200, 1_000
    pin_client()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        repository = lstm_repository(folder / "repository", SIZE)
        few, many = _places(stack, folder, options)
        reference = Reference(repository)
        with started(repository, few, options.limit) as server:
            asyncio.run(_open_few(server, reference, options))
        with started(repository, many, options.limit) as server:
            asleep, woken, met = asyncio.run(live(server, reference, options))
        starts, quick = compare_starts(repository, few, many, options)
    if options.json:
        write_json(options.json, [asleep, woken, starts])
    if options.strict and not (met and quick):
        sys.exit(1)


def _places(stack: ExitStack, folder: Path, options: argparse.Namespace) -> tuple[Place, Place]:
    """Returns the stores of few and of many sessions. Starts Redis if it is asked for."""
    if options.store == "sqlite":
        few, many = (Place(f"sqlite:{folder / name}.db", "statewise:") for name in ("few", "many"))
        return few, many
    redis = stack.enter_context(redis_server(folder, appendfsync=options.appendfsync))
    if redis is None:
        sys.exit("redis-server is not installed")
    return Place(redis.url, "few:"), Place(redis.url, "many:")


if __name__ == "__main__":
    main()
