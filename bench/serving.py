"""Measures the server's cost of a step, next to an echo and onnxruntime: `python -m bench.serving`.

The echo server returns the same bytes. All comparisons run interleaved, on one server core and one client
core. The results are the ratios at the end of each part. Shapes of outputs are checked before anything is
timed.
"""

import argparse
import sys
import tempfile
import time
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
    title: str, echo: Served, server: Served, repository: Path, *, rounds: int, **kind: Any
) -> Report:
    """Measures the echo, the server and (for batches) the engine alone, in turn; reports the ratios."""
    print(f"\n{title}", file=sys.stderr)
    measures = {
        "echo": partial(measure, echo, echo=True, **kind),
        "statewise": partial(measure, server, echo=False, **kind),
    }
    if kind["sessions"] > 1:
        measures["onnxruntime"] = partial(
            in_process, repository, size=kind["size"], rows=kind["sessions"], seconds=kind["seconds"]
        )
    found = {name: medians(samples) for name, samples in interleaved(measures, rounds=rounds).items()}
    report = Report(title)
    for name, figures in found.items():
        report.add(name, **figures)
    beside_us = sum(figures["cpu_us"] for name, figures in found.items() if name != "statewise")
    report.add(
        "ratio",
        cpu=found["statewise"]["cpu_us"] / beside_us,
        p50=found["statewise"]["p50_us"] / found["echo"]["p50_us"],
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
        with serving(echo_server()) as echo, serving(statewise_server(repository)) as server:
            reports = [
                compare(
                    title,
                    echo,
                    server,
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
                    server, repository, size=size, count=options.rows, rounds=options.rounds
                )
                for size in SIZES
            ]
    if options.json:
        write_json(options.json, reports)


if __name__ == "__main__":
    main()
