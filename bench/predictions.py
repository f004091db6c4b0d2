"""Sends the same Predict request again and again, and counts the replies.

`python -m bench.predictions ADDRESS` does so from a separate process, in the background of a measurement,
with a fixed number of requests in flight. Each line on its stdin turns the load on or off; the process
answers with a line that holds the number of predictions finished since the previous line.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
from bench.harness import CLIENT_CORE, Served

from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor, pack_uint32, to_tensor

_PREDICT = "/statewise.v1.SequenceService/Predict"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Outcomes:
    """Outcomes of requests.

    Attributes:
        finished: Requests that were answered.
        refused: Requests that were refused with a time to retry.
        others: Other failures, by status and message.
    """

    finished: int = 0
    refused: int = 0
    others: Counter[str] = field(default_factory=Counter)


class Predictions:
    """Makes requests of one sequence each, on one channel of the running event loop."""

    def __init__(self, address: str, *, model: str, inputs: int, steps: int) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._call = self._channel.unary_stream(_PREDICT)
        self._x = np.random.default_rng(1).standard_normal((steps, inputs)).astype(np.float32)
        request = sequence_pb2.PredictRequest(
            model=model, lengths=pack_uint32([steps]), inputs={"x": to_tensor(self._x)}
        )
        self._request = request.SerializeToString()
        self.outcomes = Outcomes()

    async def outputs(self) -> np.ndarray:
        """Makes one request; returns its outputs, [T, O]."""
        parts = [
            from_tensor(sequence_pb2.PredictResponse.FromString(raw).outputs["y"])
            async for raw in self._call(self._request)
        ]
        return np.concatenate(parts)

    async def request(self) -> None:
        """Makes one request and counts its outcome."""
        try:
            async for _ in self._call(self._request):
                pass
        except grpc.aio.AioRpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            if b"QUEUE_FULL" in bytes(details) and b"RetryInfo" in bytes(details):
                self.outcomes.refused += 1
            else:
                self.outcomes.others[f"{error.code().name}: {error.details()}"] += 1
        else:
            self.outcomes.finished += 1

    async def keep(self, under_way: int, *, seconds: float) -> float:
        """Keeps a number of requests in flight for some seconds; returns predictions finished a second."""
        begun_s, before = time.perf_counter(), self.outcomes.finished

        async def drive() -> None:
            while time.perf_counter() - begun_s < seconds:
                await self.request()

        await asyncio.gather(*(drive() for _ in range(under_way)))
        return (self.outcomes.finished - before) / (time.perf_counter() - begun_s)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


class Background:
    """Controls a background process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def toggle(self) -> int:
        """Turns the load on or off; returns the predictions finished since the previous call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def background(
    served: Served, *, model: str, inputs: int, steps: int, under_way: int
) -> Iterator[Background]:
    """Starts a background process, turned off, on the clients' core and with the lowest priority."""
    command = [sys.executable, "-m", "bench.predictions", served.address, "--model", model]
    command += ["--inputs", str(inputs), "--steps", str(steps), "--under-way", str(under_way)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Background(process)
        finally:
            process.terminate()


async def _serve_toggles(predictions: Predictions, under_way: int) -> None:
    running = asyncio.Event()

    async def drive() -> None:
        while True:
            await running.wait()
            await predictions.request()

    drivers = [asyncio.create_task(drive()) for _ in range(under_way)]
    reported = 0
    while await asyncio.to_thread(sys.stdin.readline):
        if running.is_set():
            running.clear()
        else:
            running.set()
        print(predictions.outcomes.finished - reported, flush=True)
        reported = predictions.outcomes.finished
    for driver in drivers:
        driver.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("address", help="HOST:PORT of the server")
    parser.add_argument("--model", required=True)
    parser.add_argument("--inputs", type=int, required=True, help="features of a time step")
    parser.add_argument("--steps", type=int, default=2_000, help="time steps of a sequence")
    parser.add_argument("--under-way", type=int, default=4, help="requests in flight")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    os.nice(19)

    async def run() -> None:
        predictions = Predictions(
            options.address, model=options.model, inputs=options.inputs, steps=options.steps
        )
        await _serve_toggles(predictions, options.under_way)
        await predictions.close()

    asyncio.run(run())


if __name__ == "__main__":
    main()
