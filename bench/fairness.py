"""Measures how long steps wait while long jobs keep the server busy: `python -m bench.fairness`.

Sessions make steps at a fixed rate, in turn on an otherwise idle server, and on the same server while Predict
requests of thousands of time steps are always waiting. The result is how much later the slowest hundredth of
the steps is answered. Latency is measured from the moment a step was due.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
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
    write_json,
)
from bench.models import lstm_repository
from bench.predictions import Background, Predictions, background
from bench.streams import BatchStream, open_streams

from statewise.service import Settings

_SIZE = 64
_MODEL = f"lstm{_SIZE}"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
_SLICE_US = Settings.model_fields["piece_s"].default * 1e6


async def paced(
    streams: list[BatchStream], served: Served, *, rate_hz: float, seconds: float
) -> dict[str, float]:
    """Sends a step on each stream every 1/rate_hz s, the streams evenly offset; measures latencies."""
    latencies: list[float] = []
    begun_s = time.perf_counter()

    async def drive(stream: BatchStream, offset_s: float) -> None:
        due_s = begun_s + offset_s
        while due_s < begun_s + seconds:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            await stream.exchange()
            latencies.append(time.perf_counter() - due_s)
            due_s += 1 / rate_hz

    cpu_s = served.cpu_s()
    await asyncio.gather(
        *(drive(stream, place / len(streams) / rate_hz) for place, stream in enumerate(streams))
    )
    elapsed_s = time.perf_counter() - begun_s
    tail = {f"p{q:g}_us": float(np.percentile(latencies, q) * 1e6) for q in (90.0, 99.9)}
    return {
        **percentiles_us(latencies),
        **tail,
        "per_s": len(latencies) / elapsed_s,
        "cpu": (served.cpu_s() - cpu_s) / elapsed_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--sessions", type=int, default=64, help="sessions that step at a fixed rate, one stream each"
    )
    parser.add_argument("--rate", type=float, default=50.0, help="steps a second of each session")
    parser.add_argument("--steps", type=int, default=2_000, help="time steps of a prediction")
    parser.add_argument("--under-way", type=int, default=4, help="predictions in flight at any time")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one warm-up round")
    parser.add_argument("--short", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    if options.short:
        options.seconds, options.rounds = 3.0, 3
    pin_client()
    work = {"model": _MODEL, "inputs": _SIZE, "steps": options.steps}
    with ExitStack() as stack:
        repository = lstm_repository(Path(stack.enter_context(tempfile.TemporaryDirectory())), _SIZE)
        served = stack.enter_context(serving(statewise_server(repository)))
        busy = stack.enter_context(background(served, under_way=options.under_way, **work))
        runner = stack.enter_context(asyncio.Runner())
        channel, streams = runner.run(_opened(served, options.sessions))
        runner.run(_check(served, **work))

        def measure(load: Background | None) -> dict[str, float]:
            if load is not None:
                load.toggle()
            figures = runner.run(paced(streams, served, rate_hz=options.rate, seconds=options.seconds))
            if load is not None:
                figures["predictions_per_s"] = load.toggle() / options.seconds
            runner.run(asyncio.sleep(0.3))  # predictions in flight end
            return figures

        samples = interleaved(
            {"otherwise idle": partial(measure, None), "busy": partial(measure, busy)}, rounds=options.rounds
        )
        runner.run(channel.close())
    title = f"{options.sessions} sessions at {options.rate:g} Hz beside predictions of {options.steps} steps"
    print(f"\n{title}", file=sys.stderr)
    report = Report(title)
    found = {name: medians(values) for name, values in samples.items()}
    for name, figures in found.items():
        report.add(name, **figures)
    report.add(
        "ratio of p99, less a chunk",
        ratio=(found["busy"]["p99_us"] - _SLICE_US) / found["otherwise idle"]["p99_us"],
        aim=4.0,
    )
    if options.json:
        write_json(options.json, [report])


async def _opened(served: Served, sessions: int) -> tuple[grpc.aio.Channel, list[BatchStream]]:
    channel = grpc.aio.insecure_channel(served.address, options=_OPTIONS)
    opened = await open_streams(channel, model=_MODEL, size=_SIZE, streams=sessions, sessions=1, echo=False)
    return channel, opened


async def _check(served: Served, *, model: str, inputs: int, steps: int) -> None:
    """Raises RuntimeError if a prediction of the background gives wrong outputs."""
    predictions = Predictions(served.address, model=model, inputs=inputs, steps=steps)
    outputs = await predictions.outputs()
    await predictions.close()
    if outputs.shape != (steps, _SIZE) or not np.isfinite(outputs).all():
        raise RuntimeError(f"a prediction gave {outputs.shape}")


if __name__ == "__main__":
    main()
