"""Measures what kept requests cost in memory and in steps: `python -m bench.kept`.

Two servers on one core are measured in turn, with equally many sessions: those of one keep one request, those
of the other eight. All sessions are stepped one after the other, one a message, and 256 a message. For the
second server the memory of a session is compared with what the server says that it takes.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
from bench.harness import (
    Report,
    Served,
    interleaved,
    medians,
    pin_client,
    serving,
    statewise_server,
    write_json,
)
from bench.models import lstm_repository
from bench.scale import Crowd, VisitingStream, connected
from bench.streams import load

from statewise.v1 import admin_pb2, admin_pb2_grpc

_SIZE = 64
_STATE_BYTES = 2 * _SIZE * 4  # h and c, float32
_OTHER_BYTES = 812
"""Of a session beside its states at most: its record, its name, and a share of pages that are not full."""
_KINDS = {"64 streams, one session a message": (64, 1), "one stream, 256 sessions a message": (1, 256)}


async def state_bytes(channel: grpc.aio.Channel) -> int:
    """Asks the server how many bytes the states of its sessions take."""
    call = admin_pb2_grpc.AdminServiceStub(channel).WatchStats(admin_pb2.WatchStatsRequest())
    report = await call.read()
    call.cancel()
    return sum(one.state_bytes for one in report.models)


def memory(resident_bytes: float, computed_bytes: float, *, sessions: int, keep: int) -> Report:
    """Reports the bytes of a session, as measured and as computed."""
    print(f"\nmemory of a session that keeps {keep} requests", file=sys.stderr)
    report = Report("memory")
    expected = 2 * _STATE_BYTES + (keep - 1) * (_STATE_BYTES + 8)
    report.add("as computed, against the formula", ratio=computed_bytes / sessions / expected, aim=1.0)
    report.judge("bytes a session, measured", resident=resident_bytes / sessions, aim=expected + _OTHER_BYTES)
    return report


def compare(
    title: str,
    runner: asyncio.Runner,
    crowds: dict[str, tuple[Crowd, Served]],
    *,
    seconds: float,
    rounds: int,
) -> Report:
    """Steps all sessions of both servers in turn; reports medians and their ratio."""
    print(f"\n{title}, all sessions in turn", file=sys.stderr)
    streams, rows = _KINDS[title]

    async def visiting(crowd: Crowd) -> list[VisitingStream]:
        return crowd.visitors(streams, rows=rows)

    opened = {name: runner.run(visiting(crowd)) for name, (crowd, _) in crowds.items()}

    def measure(name: str) -> dict[str, float]:
        return runner.run(load(opened[name], crowds[name][1], seconds=seconds))

    samples = interleaved({name: partial(measure, name) for name in crowds}, rounds=rounds)
    report = Report(title)
    for name in crowds:
        report.add(name, **medians(samples[name]))
    one, many = samples.values()
    ratios = medians([{"cpu": two["cpu_us"] / first["cpu_us"]} for first, two in zip(one, many, strict=True)])
    report.judge("ratio", cpu=ratios["cpu"], aim=1.05)
    for name, (crowd, _) in crowds.items():
        crowd.steps = runner.run(_finish(opened[name]))
    return report


async def _finish(streams: list[VisitingStream]) -> int:
    """Steps on until all sessions stand at one position. Returns it."""
    furthest = max(stream.position for stream in streams) + 1
    for stream in streams:
        while stream.position < furthest:
            await stream.exchange()
        await stream.call.done_writing()
    return furthest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sessions", type=int, default=102_400, help="open sessions of each server")
    parser.add_argument("--keep", type=int, default=8, help="requests that those of the second server keep")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of one measurement")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, after one warm-up round")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    if options.sessions % 256:
        parser.error(f"--sessions: expected a multiple of 256; got {options.sessions}")
    pin_client()
    with ExitStack() as stack:
        repository = lstm_repository(Path(stack.enter_context(tempfile.TemporaryDirectory())), _SIZE)
        servers = [
            stack.enter_context(
                serving(statewise_server(repository), STATEWISE_SESSIONS=str(options.sessions))
            )
            for _ in range(2)
        ]
        runner = stack.enter_context(asyncio.Runner())
        channels = [runner.run(connected(served)) for served in servers]
        keeps = {f"keep = {keep}": keep for keep in (1, options.keep)}
        crowds = {
            name: (Crowd(served, channel, keep=keep), served)
            for (name, keep), served, channel in zip(keeps.items(), servers, channels, strict=True)
        }
        runner.run(crowds["keep = 1"][0].open(options.sessions))
        before_bytes = servers[1].resident_bytes()
        runner.run(crowds[f"keep = {options.keep}"][0].open(options.sessions))
        reports = [
            memory(
                servers[1].resident_bytes() - before_bytes,
                runner.run(state_bytes(channels[1])),
                sessions=options.sessions,
                keep=options.keep,
            )
        ]
        for title in _KINDS:
            reports.append(compare(title, runner, crowds, seconds=options.seconds, rounds=options.rounds))
        for channel in channels:
            runner.run(channel.close())
    if options.json:
        write_json(options.json, reports)


if __name__ == "__main__":
    main()
