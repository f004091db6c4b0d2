"""Measures what a session store costs a server: `python -m bench.store`.

Servers without a store, with SQLite and with Redis run in turns, on one core; clients and Redis have the
other one. A turn ends when its server has nothing left to do, so that what it owes is counted as its own. The
server's CPU is that of all its threads. The results are the medians of the ratios to the server without a
store. At the end the bytes of a session on the disk are measured.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import grpc
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
from bench.redis_server import RedisServer, redis_server
from bench.scraping import each_second, free_address, scrape
from bench.streams import BatchStream, load, open_streams

from statewise.service.stores.sqlite import SqliteStore

_SIZE = 64
_MODEL = f"lstm{_SIZE}"
_BATCH = 1024
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
STREAMS_AIMS = {"sqlite": 1.04, "redis": 1.06}
"""CPU of a step, relative to no store: 64 streams of single steps."""
BATCHES_AIMS = {"sqlite": 1.15, "redis": 1.25}
"""The same for step batches of 1,024 sessions."""
TICK_AIM_S = 0.5


@dataclass
class Server:
    """A server in its turns.

    Attributes:
        served: The process.
        metrics: Address of its metrics.
        redis: Its store, if that is a Redis server.
        streams: Open streams of the present workload.
    """

    served: Served
    metrics: str
    redis: RedisServer | None
    streams: list[BatchStream]

    def steps(self) -> int:
        """Returns the steps that its streams have sent, each of all sessions of the stream."""
        return sum(stream.position for stream in self.streams)

    def turn(self, runner: asyncio.Runner, *, sessions: int, seconds: float) -> dict[str, float]:
        """Loads the streams; measures a step of a session until the server is quiet again."""
        ticks_s: list[float] = []
        before, steps, cpu_s, redis_s = scrape(self.metrics), self.steps(), *self._cpu_s()
        with each_second(lambda: ticks_s.append(scrape(self.metrics).get(_TICK, 0.0))):
            loaded = runner.run(load(self.streams, self.served, seconds=seconds))
        ticks_s.append(scrape(self.metrics).get(_TICK, 0.0))
        wait_until_quiet(self.served)
        made = (self.steps() - steps) * sessions
        cpu_now_s, redis_now_s = self._cpu_s()
        figures = {
            "cpu_us": (cpu_now_s - cpu_s) / made * 1e6,
            "steps_per_s": loaded["per_s"] * sessions,
            "p50_us": loaded["p50_us"],
            "p99_us": loaded["p99_us"],
        }
        if _TICK in before:
            after = scrape(self.metrics)
            ticks, rows, written = (after[name] - before[name] for name in _WRITTEN)
            figures |= {"tick_ms": max(ticks_s) * 1e3, "ticks": ticks, "rows_a_tick": rows / max(ticks, 1)}
            figures |= {"mb_a_tick": written / max(ticks, 1) / 1e6}
        if self.redis is not None:
            figures["redis_cpu_us"] = (redis_now_s - redis_s) / made * 1e6
        return figures

    def _cpu_s(self) -> tuple[float, float]:
        return self.served.cpu_s(), 0.0 if self.redis is None else self.redis.cpu_s()


_TICK = "statewise_checkpoint_seconds"
_WRITTEN = (
    "statewise_checkpoints_total",
    "statewise_checkpoint_sessions_total",
    "statewise_checkpoint_bytes_total",
)


@contextmanager
def servers(
    repository: Path, folder: Path, redis: RedisServer | None, *, replies: bool
) -> Iterator[dict[str, Server]]:
    """Starts the servers to compare, by name; with `replies` also those whose replies wait for the store."""
    stores = {"sqlite": f"sqlite:{folder / 'sessions.db'}"}
    if redis is not None:
        stores["redis"] = redis.url
    kinds = {"no store": ("none", "interval"), **{name: (at, "interval") for name, at in stores.items()}}
    if replies:
        kinds |= {f"{name}, reply": (at.replace(".db", "-reply.db"), "reply") for name, at in stores.items()}
    with ExitStack() as running:
        found = {}
        for name, (store, durability) in kinds.items():
            metrics = free_address()
            command = statewise_server(repository, "--store", store, "--metrics-listen", metrics)
            served = running.enter_context(
                serving(command, STATEWISE_DURABILITY=durability, STATEWISE_STORE_PREFIX=f"{name}:")
            )
            found[name] = Server(served, metrics, redis if store.startswith("unix") else None, [])
        yield found


def compare(
    title: str,
    found: dict[str, Server],
    *,
    streams: int,
    sessions: int,
    rounds: int,
    seconds: float,
    aims: dict[str, float],
) -> tuple[Report, bool]:
    """Loads streams on all servers in turns. Returns the figures, and whether all aims are met."""
    print(f"\n{title}, {rounds} turns each", file=sys.stderr)
    report, met = Report(title), True
    with asyncio.Runner() as runner:
        channels = []
        measures: dict[str, Callable[[], dict[str, float]]] = {}
        for name, server in found.items():
            channel = runner.run(_connected(server.served))
            channels.append(channel)
            kind = {"model": _MODEL, "size": _SIZE, "streams": streams, "sessions": sessions}
            server.streams = runner.run(open_streams(channel, echo=False, **kind))
            measures[name] = partial(server.turn, runner, sessions=sessions, seconds=seconds)
        samples = interleaved(measures, rounds=rounds)
        for channel in channels:
            runner.run(channel.close())
    for name, turns in samples.items():
        report.add(name, **medians(turns))
    for name, turns in samples.items():
        if name != "no store":
            met &= _judge(report, name, turns, samples["no store"], aims.get(name))
    return report, met


def _judge(
    report: Report,
    name: str,
    turns: Sequence[dict[str, float]],
    beside: Sequence[dict[str, float]],
    aim: float | None,
) -> bool:
    """Adds the ratios to the turns without a store. Returns whether the aims are met."""
    cpu, steps = (
        [one[key] / other[key] for one, other in zip(turns, beside, strict=True)]
        for key in ("cpu_us", "steps_per_s")
    )
    figures = {"cpu": median(cpu), "lowest": min(cpu), "highest": max(cpu), "steps_per_s": median(steps)}
    if aim is None:
        report.add(f"ratio {name}", **figures)
        return True
    tick_s = median(one["tick_ms"] for one in turns) / 1e3
    met = report.judge(f"ratio {name}", aim=aim, **figures)
    return report.judge(f"seconds of a tick, {name}", aim=TICK_AIM_S, median_s=tick_s) and met


async def _connected(served: Served) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(served.address, options=_OPTIONS)


def on_disk(folder: Path, redis: RedisServer | None, empty_bytes: int) -> Report:
    """Reports the bytes of a session at rest: in the database when all is folded, and in Redis."""
    report = Report("bytes a session")
    print(f"\n{report.title}, raw state of both copies {4 * _SIZE * 4}", file=sys.stderr)
    path = folder / "sessions.db"
    store = SqliteStore(path, log_bytes=0)
    while store.tidy(seconds=1.0):
        pass
    sessions = store.usage().sessions
    store.close()
    sizes = {one.name: one.stat().st_size for one in folder.iterdir() if one.name.startswith(path.name)}
    report.add(
        "sqlite",
        database=sizes.pop(path.name) / sessions,
        spare_log_mb=sum(sizes.values()) / 1e6,
        sessions=sessions,
    )
    if redis is not None:
        kept = sum(redis.client.hlen(key) for key in redis.client.scan_iter("*:sessions"))
        report.add(
            "redis",
            disk=redis.disk_bytes() / kept,
            memory=(redis.memory_bytes() - empty_bytes) / kept,
            sessions=kept,
        )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=64, help="streams of single steps")
    parser.add_argument(
        "--batches", type=int, default=10, help=f"step batches of {_BATCH:,} sessions, a stream each"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of one turn")
    parser.add_argument("--rounds", type=int, default=10, help="measured turns, after one warm-up turn")
    parser.add_argument("--short", action="store_true", help="fewer and shorter turns, fewer sessions")
    parser.add_argument("--folder", type=Path, help="where the stores are, on the disk to measure")
    parser.add_argument(
        "--appendfsync", default="everysec", choices=["always", "everysec", "no"], help="setting of Redis"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if an aim is missed")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    if options.short:
        options.streams, options.batches, options.seconds, options.rounds = 8, 2, 0.3, 2
    pin_client()
    rounds = {"rounds": options.rounds, "seconds": options.seconds}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        repository = lstm_repository(folder / "repository", _SIZE)
        for name in ("redis", "streams", "batches"):
            (folder / name).mkdir()
        redis = stack.enter_context(redis_server(folder / "redis", appendfsync=options.appendfsync))
        if redis is None:
            print("redis-server is not installed: SQLite alone is measured", file=sys.stderr)
        empty_bytes = 0 if redis is None else redis.memory_bytes()
        with servers(repository, folder / "streams", redis, replies=True) as found:
            title = f"{options.streams} streams, one step a message, H={_SIZE}"
            streams, met = compare(
                title, found, streams=options.streams, sessions=1, aims=STREAMS_AIMS, **rounds
            )
        with servers(repository, folder / "batches", redis, replies=False) as found:
            title = (
                f"step batches of {_BATCH} sessions, {options.batches * _BATCH} sessions in all, H={_SIZE}"
            )
            batches, also_met = compare(
                title, found, streams=options.batches, sessions=_BATCH, aims=BATCHES_AIMS, **rounds
            )
        reports = [streams, batches, on_disk(folder / "batches", redis, empty_bytes)]
    if options.json:
        write_json(options.json, reports)
    if options.strict and not (met and also_met):
        sys.exit(1)


if __name__ == "__main__":
    main()
