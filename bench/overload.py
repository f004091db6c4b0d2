"""Measures a server that is sent ten times the work it can do: `python -m bench.overload`.

First predictions: a fixed number in flight shows the capacity, then requests come at ten times that rate,
whether or not they are answered. Then streams whose senders write as fast as flow control lets them. The
results are the share of the capacity that the server still delivers, and whether its memory keeps growing.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import numpy as np
from bench.harness import Report, Served, pin_client, serving, statewise_server, write_json
from bench.models import lstm_repository
from bench.predictions import Predictions
from bench.streams import STREAM

from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import pack_uint32, pack_uint64, to_tensor

_MIB = 1024 * 1024
_TICK_S = 0.01
_FEATURES = 9
_UNDER_WAY = 8  # enough requests to keep the server busy
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class Memory:
    """Samples the server's resident memory during a measurement."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._samples: list[int] = []

    async def watch(self) -> None:
        """Takes a sample every 0.1 s until cancelled."""
        while True:
            self._samples.append(self._served.resident_bytes())
            await asyncio.sleep(0.1)

    def figures(self) -> dict[str, float]:
        """Returns the peak, and how far the last third rose above the middle third."""
        third = max(1, len(self._samples) // 3)
        middle, last = self._samples[-2 * third : -third], self._samples[-third:]
        return {
            "peak_mib": max(self._samples) / _MIB,
            "growth": max(last) / max(middle) - 1,
        }


async def at_a_rate(
    predictions: Predictions, *, per_s: float, seconds: float, served: Served
) -> dict[str, float]:
    """Sends requests at a fixed rate, answered or not; counts outcomes in the last two thirds of the time."""
    memory = Memory(served)
    watching = asyncio.create_task(memory.watch())
    tasks: set[asyncio.Task[None]] = set()
    sent = 0
    begun_s = time.perf_counter()
    settled: tuple[float, int, int] | None = None
    while (elapsed_s := time.perf_counter() - begun_s) < seconds:
        if settled is None and elapsed_s > seconds / 3:
            settled = elapsed_s, predictions.outcomes.finished, predictions.outcomes.refused
        while sent < per_s * elapsed_s:
            task = asyncio.create_task(predictions.request())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(_TICK_S)
    assert settled is not None
    since_s, finished, refused = settled
    span_s = time.perf_counter() - begun_s - since_s
    figures = {
        "finished_per_s": (predictions.outcomes.finished - finished) / span_s,
        "refused_per_s": (predictions.outcomes.refused - refused) / span_s,
        "sent_per_s": sent / seconds,
        **memory.figures(),
    }
    watching.cancel()
    await asyncio.gather(watching, *tasks, return_exceptions=True)
    return figures


class Sender:
    """Sends chunks of one session on one stream, as fast as the stream accepts them."""

    def __init__(self, call: grpc.aio.StreamStreamCall, handle: int, x: np.ndarray) -> None:
        self._call = call
        self._steps = len(x)
        self._request = sequence_pb2.SessionStreamRequest(
            step=sequence_pb2.StepRequest(
                handles=pack_uint64([handle]), steps=pack_uint32([len(x)]), inputs={"x": to_tensor(x)}
            )
        )
        self.sent = 0
        self.answered = 0
        self.failed = 0

    async def send(self) -> None:
        """Sends without end, and without waiting for answers."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                self._request.request_id = self.sent + 1
                self._request.step.positions = pack_uint64([self.sent * self._steps])
                await self._call.write(self._request.SerializeToString())
                self.sent += 1

    async def receive(self) -> None:
        """Reads and counts every answer."""
        while isinstance(raw := await self._call.read(), bytes):
            if len(raw) > 4 * self._steps:
                self.answered += 1
            else:
                self.failed += 1


async def flooding(
    served: Served, *, model: str, steps: int, streams: int, seconds: float, reading: bool
) -> dict[str, float]:
    """Runs streams that send without end, and that read their answers or never do."""
    x = np.random.default_rng(1).standard_normal((steps, _FEATURES)).astype(np.float32)
    memory = Memory(served)
    async with grpc.aio.insecure_channel(served.address, options=_OPTIONS) as channel:
        opened = await sequence_pb2_grpc.SequenceServiceStub(channel).OpenSessions(
            sequence_pb2.OpenSessionsRequest(
                model=model, session_ids=[f"{reading} {number}" for number in range(streams)]
            )
        )
        senders = [Sender(channel.stream_stream(STREAM)(), session.handle, x) for session in opened.sessions]
        tasks = [asyncio.create_task(sender.send()) for sender in senders]
        if reading:
            tasks += [asyncio.create_task(sender.receive()) for sender in senders]
        tasks.append(asyncio.create_task(memory.watch()))
        await asyncio.sleep(seconds / 3)
        before, begun_s = sum(sender.answered for sender in senders), time.perf_counter()
        await asyncio.sleep(seconds * 2 / 3)
        answered = sum(sender.answered for sender in senders) - before
        figures = {
            "finished_per_s": answered / (time.perf_counter() - begun_s),
            "refused_per_s": sum(sender.failed for sender in senders) / seconds,
            "sent_ahead": max(sender.sent - sender.answered for sender in senders),
            **memory.figures(),
        }
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--times", type=float, default=10.0, help="requests sent, as a multiple of the capacity"
    )
    parser.add_argument("--steps", type=int, default=2_000, help="time steps of a prediction or chunk")
    parser.add_argument("--streams", type=int, default=16, help="streams that flood the server")
    parser.add_argument(
        "--hidden",
        type=int,
        default=512,
        help="hidden units; the number of inputs stays small, and so do messages",
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="seconds of each part")
    parser.add_argument("--short", action="store_true", help="shorter parts")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    if options.short:
        options.seconds = 6.0
    pin_client()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = lstm_repository(root, options.hidden, features=_FEATURES)
        served = stack.enter_context(serving(statewise_server(repository)))
        report = asyncio.run(_run(served, f"lstm{options.hidden}", options))
    if options.json:
        write_json(options.json, [report])


async def _run(served: Served, model: str, options: argparse.Namespace) -> Report:
    predictions = Predictions(served.address, model=model, inputs=_FEATURES, steps=options.steps)
    if (await predictions.outputs()).shape != (options.steps, _FEATURES):
        raise RuntimeError("a prediction gives no outputs")
    title = f"{options.times:g} times the capacity, {options.steps} steps a request, LSTM H={options.hidden}"
    print(f"\n{title}", file=sys.stderr)
    report = Report(title)
    await predictions.keep(_UNDER_WAY, seconds=1.0)
    capacity = await predictions.keep(_UNDER_WAY, seconds=options.seconds / 3)
    report.add("capacity", finished_per_s=capacity, resident_mib=served.resident_bytes() / _MIB)
    flooded = await at_a_rate(
        predictions, per_s=options.times * capacity, seconds=options.seconds, served=served
    )
    report.add("predictions", **flooded)
    for end, count in predictions.outcomes.others.items():
        report.add(f"requests that ended as {end}", count=count)
    after = await predictions.keep(_UNDER_WAY, seconds=options.seconds / 3)
    report.add("capacity, afterwards", finished_per_s=after, resident_mib=served.resident_bytes() / _MIB)
    await predictions.close()
    report.add("ratio to the capacity", finished=flooded["finished_per_s"] * 2 / (capacity + after), aim=0.8)
    for reading in (True, False):
        figures = await flooding(
            served,
            model=model,
            steps=options.steps,
            streams=options.streams,
            seconds=options.seconds,
            reading=reading,
        )
        report.add(f"streams whose senders {'read' if reading else 'never read'}", **figures)
    return report


if __name__ == "__main__":
    main()
