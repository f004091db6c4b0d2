"""Measures the server's cost of a step, next to echoes and onnxruntime: `python -m bench.serving`.

Echo servers return the same bytes, one on grpc.aio and one on gRPC's completion queue; the server runs with
both transports, and once as gRPC comes. All comparisons run interleaved, on one server core and one client
core. The results are the ratios at the end of each part, to grpc.aio's echo. Shapes of outputs are checked
before anything is timed.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import ragged, ragged_prediction
from bench.harness import (
    Report,
    Served,
    echo_server,
    interleaved,
    medians,
    pin_client,
    serving,
    statewise_server,
    write_json,
)
from bench.models import lstm_repository
from bench.streams import measure

from statewise.service.engine import Engine
from statewise.service.packages import read_package

SIZES = (64, 128)
BATCHES = (256, 1024)
SERVERS = {
    "aio as gRPC comes": {"STATEWISE_TRANSPORT": "aio", "GRPC_EXPERIMENTS": ""},
    "aio": {"STATEWISE_TRANSPORT": "aio"},
    "queue": {"STATEWISE_TRANSPORT": "queue"},
}
"""Environments of the servers. The first one's gRPC reads the sockets in threads of its own."""


def in_process(repository: Path, *, size: int, rows: int, seconds: float) -> dict[str, float]:
    """Runs only the engine, at that batch size."""
    package = read_package(f"lstm{size}", 1, repository / f"lstm{size}" / "1")
    engine = Engine(package.graph, package.spec)
    x = np.random.default_rng(1).standard_normal((1, rows, size)).astype(np.float32)
    lengths = np.ones(rows, np.int32)
    state = [np.zeros((rows, 2 * size), np.float32)]
    runs = 0
    end = time.perf_counter() + seconds
    cpu = time.process_time()
    while time.perf_counter() < end:
        _, state = engine.run([x], lengths, state)
        runs += 1
    return {"cpu_us": (time.process_time() - cpu) / runs * 1e6}


def compare(
    title: str,
    echoes: dict[str, Served],
    servers: dict[str, Served],
    repository: Path,
    *,
    rounds: int,
    **kind: Any,
) -> Report:
    """Measures echoes, servers and (for batches) the engine alone, in turn; reports the ratios.

    Args:
        title: The workload.
        echoes: Echo servers by transport.
        servers: The servers by the keys of `SERVERS`.
        repository: Of the models.
        rounds: Measured rounds.
        kind: The workload, as `bench.streams.measure` takes it.
    """
    print(f"\n{title}", file=sys.stderr)
    measures = {f"echo {name}": partial(measure, one, echo=True, **kind) for name, one in echoes.items()}
    measures |= {
        f"statewise {name}": partial(measure, one, echo=False, **kind) for name, one in servers.items()
    }
    if kind["sessions"] > 1:
        measures["onnxruntime"] = partial(
            in_process, repository, size=kind["size"], rows=kind["sessions"], seconds=kind["seconds"]
        )
    found = {name: medians(samples) for name, samples in interleaved(measures, rounds=rounds).items()}
    report = Report(title)
    for name, figures in found.items():
        report.add(name, **figures)
    echo = found["echo aio"]
    beside_us = echo["cpu_us"] + (found["onnxruntime"]["cpu_us"] if "onnxruntime" in found else 0)
    for transport in servers:
        figures = found[f"statewise {transport}"]
        report.add(
            f"ratio {transport}",
            cpu=figures["cpu_us"] / beside_us,
            p50=figures["p50_us"] / echo["p50_us"],
            cpu_to_aio=figures["cpu_us"] / found["statewise aio"]["cpu_us"],
            cpu_to_aio_as_grpc_comes=figures["cpu_us"] / found["statewise aio as gRPC comes"]["cpu_us"],
        )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one warm-up round")
    parser.add_argument("--rows", type=int, default=10_000, help="sequences to predict")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    pin_client()
    parts = [("64 streams, one session each, H=64", 64, 1, 64), ("one stream, one session, H=64", 1, 1, 64)]
    parts += [(f"one stream, {n} sessions a batch, H={h}", 1, n, h) for h in SIZES for n in BATCHES]
    with tempfile.TemporaryDirectory() as folder:
        repository = ragged.repository(lstm_repository(Path(folder), *SIZES), *SIZES)
        with ExitStack() as running:
            echoes = {name: running.enter_context(serving(echo_server(name))) for name in ("aio", "queue")}
            servers = {
                name: running.enter_context(serving(statewise_server(repository), **environment))
                for name, environment in SERVERS.items()
            }
            reports = [
                compare(
                    title,
                    echoes,
                    servers,
                    repository,
                    rounds=options.rounds,
                    seconds=options.seconds,
                    model=f"lstm{size}",
                    size=size,
                    streams=streams,
                    sessions=sessions,
                )
                for title, streams, sessions, size in parts
            ]
            reports += [
                ragged_prediction.compare(
                    servers["queue"], repository, size=size, count=options.rows, rounds=options.rounds
                )
                for size in SIZES
            ]
    if options.json:
        write_json(options.json, reports)


if __name__ == "__main__":
    main()
