"""Runs benchmarks: pins processes, reads their CPU time, interleaves rounds, prints tables, writes JSON.

Machines are shared and noisy, so no figure is an absolute claim. The programs to compare run in turn within
one call, and the result is the median of their ratios.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

SERVER_CORE, CLIENT_CORE = 0, 1
_QUIET_S, _QUIET_SHARE = 0.2, 0.03


@dataclass(frozen=True)
class Served:
    """A running server process."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """Returns the CPU seconds that all its threads have used."""
        tasks = Path(f"/proc/{self.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def resident_bytes(self) -> int:
        """Returns its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def serving(command: Sequence[str], **environment: str) -> Iterator[Served]:
    """Starts a server on its own core and waits for its line `listening on HOST:PORT`."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    try:
        os.sched_setaffinity(process.pid, {SERVER_CORE})
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{command[0]} did not start: {line!r}")
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {SERVER_CORE})
        yield Served(line.split()[-1], process.pid)
    finally:
        process.terminate()
        process.wait()


def wait_until_quiet(served: Served, *, most_s: float = 20.0) -> None:
    """Waits until a server uses next to no CPU: it has done what it had put off. Gives up after a time."""
    end_s = time.perf_counter() + most_s
    while time.perf_counter() < end_s:
        cpu_s = served.cpu_s()
        time.sleep(_QUIET_S)
        if served.cpu_s() - cpu_s < _QUIET_SHARE * _QUIET_S:
            return


def echo_server(transport: str = "aio") -> list[str]:
    """Returns the command of a bare echo server, on grpc.aio or on gRPC's completion queue."""
    return [sys.executable, "-m", {"aio": "bench.echo", "queue": "bench.queue_echo"}[transport]]


def statewise_server(repository: Path, *options: str) -> list[str]:
    """Returns the command of the real server, on a free port."""
    serve = ["serve", "--repository", str(repository), "--listen", "127.0.0.1:0", *options]
    return [sys.executable, "-m", "statewise.cli", *serve]


def pin_client() -> None:
    """Pins this process to the clients' core."""
    os.sched_setaffinity(0, {CLIENT_CORE})


def percentiles_us(latencies_s: Sequence[float]) -> dict[str, float]:
    """Computes the median and the 99th percentile of latencies, in microseconds."""
    p50, p99 = np.percentile(latencies_s, [50, 99]) * 1e6
    return {"p50_us": float(p50), "p99_us": float(p99)}


@dataclass
class Report:
    """Rows of figures, which are printed as a table and written as JSON."""

    title: str
    rows: list[dict[str, float | str]] = field(default_factory=list)

    def add(self, name: str, **figures: float) -> None:
        """Adds a row and prints it."""
        self.rows.append({"name": name, **figures})
        printed = "  ".join(f"{key} {value:,.4g}" for key, value in figures.items())
        print(f"{name:<46} {printed}", file=sys.stderr, flush=True)

    def judge(self, name: str, *, aim: float, **figures: float) -> bool:
        """Adds a row whose first figure should be at most `aim`; prints and returns whether it is."""
        met = next(iter(figures.values())) <= aim
        self.add(f"{name}: {'met' if met else 'MISSED'}", **figures, aim=aim)
        return met


def medians(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """Computes the median of each figure over rounds, and the spread of the first figure.

    The spread is (highest - lowest) / median.
    """
    result = {key: median(sample[key] for sample in samples) for key in samples[0]}
    first = next(iter(samples[0]))
    values = [sample[first] for sample in samples]
    result["spread"] = (max(values) - min(values)) / result[first]
    return result


def interleaved(
    measures: dict[str, Callable[[], dict[str, float]]], *, rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Runs the measurements in turn, `rounds` times after one warm-up round."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            sample = measure()
            if number:
                samples[name].append(sample)
    return samples


def write_json(path: Path, reports: Sequence[Report]) -> None:
    """Writes all reports."""
    path.write_text(json.dumps([asdict(report) for report in reports], indent=1) + "\n")
