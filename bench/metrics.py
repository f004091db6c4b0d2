"""Measures the cost of metrics for the server, and of a scrape for its callers: `python -m bench.metrics`.

Two servers of the same commit run in turn: one with metrics, scraped every second, one without. The results
are the ratios of CPU time a step and of latencies. Both servers count, because WatchStats needs the counts.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

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
from bench.scraping import each_second, free_address, scrape
from bench.streams import measure

_KINDS = {"64 streams, one session each": (64, 1), "one stream, 256 sessions a batch": (1, 256)}


def compare(title: str, without: Served, watched: Served, *, rounds: int, seconds: float) -> Report:
    """Measures both servers in turn; reports medians and their ratio."""
    streams, sessions = _KINDS[title]
    load = partial(
        measure, seconds=seconds, echo=False, model="lstm64", size=64, streams=streams, sessions=sessions
    )
    measures = {"metrics off": partial(load, without), "metrics on": partial(load, watched)}
    samples = interleaved(measures, rounds=rounds)
    report = Report(title)
    for name, figures in samples.items():
        report.add(name, **medians(figures))
    pairs = zip(samples["metrics on"], samples["metrics off"], strict=True)
    report.add("ratio", **medians([{key: on[key] / off[key] for key in on} for on, off in pairs]))
    return report


def _require_steps(address: str) -> None:
    """Scrapes. Raises RuntimeError if steps are not among the metrics."""
    if "statewise_steps_total" not in scrape(address):
        raise RuntimeError("the server's metrics have no steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of one measurement")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, after one warm-up round")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    pin_client()
    address = free_address()
    with tempfile.TemporaryDirectory() as folder:
        repository = lstm_repository(Path(folder), 64)
        with (
            serving(statewise_server(repository)) as without,
            serving(statewise_server(repository, "--metrics-listen", address)) as watched,
            each_second(partial(_require_steps, address)),
        ):
            reports = [
                compare(title, without, watched, rounds=options.rounds, seconds=options.seconds)
                for title in _KINDS
            ]
    if options.json:
        write_json(options.json, reports)


if __name__ == "__main__":
    main()
