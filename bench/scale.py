"""Measures the cost of open sessions in memory, in steps and while idle: `python -m bench.scale`.

Two servers on one core are measured in turn: one with as many sessions as streams, and one with many more
sessions, which its streams step one after the other. For the larger server the benchmark also measures its
memory before and after the sessions are opened, and its CPU time while all sessions and a thousand streams
are idle.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
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
    pin_client,
    serving,
    statewise_server,
    write_json,
)
from bench.models import lstm_repository
from bench.streams import STREAM, BatchStream, load

from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import from_tensor, pack_uint64, to_tensor

_SIZE = 64
_MODEL = f"lstm{_SIZE}"
_STATE_BYTES = 2 * _SIZE * 4  # h and c, float32
_STREAMS = 64
_BATCH = 1000
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class VisitingStream(BatchStream):
    """Steps many sessions on one stream, one after the other, some a message.

    Args:
        call: The stream.
        handles: The sessions.
        first_position: Where they stand.
        rows: Sessions that a message steps; they divide the sessions evenly.
    """

    def __init__(
        self, call: grpc.aio.StreamStreamCall, handles: Sequence[int], first_position: int, *, rows: int = 1
    ) -> None:
        x = np.repeat(one_step(), rows, axis=0)
        super().__init__(call, handles[:rows], x, first_position)
        self._handles = [pack_uint64(handles[at : at + rows]) for at in range(0, len(handles), rows)]
        self._next = 0

    def message(self) -> bytes:
        """Encodes the step of the next sessions."""
        self._request.step.handles = self._handles[self._next]
        self._request.step.positions = pack_uint64([self.position] * self._rows)
        self._next += 1
        if self._next == len(self._handles):
            self._next = 0
            self.position += 1
        return self._request.SerializeToString()


class Crowd:
    """Opens sessions and steps them, so that all copies of every state are in memory.

    Args:
        served: The server.
        channel: A channel to it.
        keep: Requests that each session keeps.
    """

    def __init__(self, served: Served, channel: grpc.aio.Channel, *, keep: int = 1) -> None:
        self._served = served
        self._channel = channel
        self._keep = keep
        self.steps = keep + 1
        """Steps that each session has made: all copies of its state that it keeps are written."""
        self.handles: list[int] = []

    async def open(self, sessions: int) -> np.ndarray:
        """Opens the sessions; returns the output of the last step, which is equal for all."""
        stub = sequence_pb2_grpc.SequenceServiceStub(self._channel)
        outputs = np.empty((0, _SIZE), np.float32)
        for begin in range(0, sessions, _BATCH):
            ids = [f"session {number:032x}" for number in range(begin, min(begin + _BATCH, sessions))]
            opened = await stub.OpenSessions(
                sequence_pb2.OpenSessionsRequest(model=_MODEL, session_ids=ids, keep=self._keep)
            )
            handles = [session.handle for session in opened.sessions]
            for position in range(self.steps):
                stepped = await stub.Step(
                    sequence_pb2.StepRequest(
                        handles=pack_uint64(handles),
                        positions=pack_uint64([position] * len(handles)),
                        inputs={"x": to_tensor(np.repeat(one_step(), len(handles), axis=0))},
                    )
                )
            outputs = np.unique(np.concatenate([outputs, from_tensor(stepped.outputs["y"])]), axis=0)
            self.handles += handles
        if len(self.handles) != sessions or len(outputs) != 1:
            raise RuntimeError(f"{len(self.handles)} sessions gave {len(outputs)} different outputs")
        return outputs

    def visitors(self, streams: int, *, rows: int = 1) -> list[VisitingStream]:
        """Opens streams, and divides all sessions among them; a message steps so many of a share."""
        call = self._channel.stream_stream(STREAM)
        shares = [self.handles[number::streams] for number in range(streams)]
        return [
            VisitingStream(call(), share[: len(share) // rows * rows], self.steps, rows=rows)
            for share in shares
        ]

    async def idle_streams(self, streams: int) -> list[grpc.aio.StreamStreamCall]:
        """Opens streams that make one step, which is refused, and then stay idle."""
        calls = []
        for _ in range(streams):
            stream = BatchStream(self._channel.stream_stream(STREAM)(), self.handles[:1], one_step(), 2**40)
            await stream.exchange()
            calls.append(stream.call)
        return calls


def one_step() -> np.ndarray:
    """Returns the input of every step, [1, I]."""
    return np.random.default_rng(1).standard_normal((1, _SIZE)).astype(np.float32)


async def idle_share(served: Served, *, seconds: float) -> float:
    """Measures CPU seconds a second while there are no requests."""
    await asyncio.sleep(1.0)  # earlier work ends
    cpu_s, begun_s = served.cpu_s(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (served.cpu_s() - cpu_s) / (time.perf_counter() - begun_s)


async def _check(stream: BatchStream) -> None:
    """Raises RuntimeError if a step of the stream is refused."""
    reply = sequence_pb2.SessionStreamResponse.FromString(await stream.exchange())
    if from_tensor(reply.step.outputs["y"]).shape != (1, _SIZE):
        raise RuntimeError(f"a step gave {str(reply)[:500]}")


async def connected(served: Served) -> grpc.aio.Channel:
    """Opens a channel in the running event loop."""
    return grpc.aio.insecure_channel(served.address, options=_OPTIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000, help="open sessions of the larger server")
    parser.add_argument("--idle-streams", type=int, default=1_000, help="open idle streams")
    parser.add_argument("--idle-seconds", type=float, default=20.0, help="seconds of the idle measurement")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one warm-up round")
    parser.add_argument(
        "--short", action="store_true", help="fewer and shorter measurements, with the same sessions"
    )
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    if options.short:
        options.idle_seconds, options.seconds, options.rounds = 11.0, 1.0, 3
    pin_client()
    with ExitStack() as stack:
        repository = lstm_repository(Path(stack.enter_context(tempfile.TemporaryDirectory())), _SIZE)
        small, large = (
            stack.enter_context(
                serving(statewise_server(repository), STATEWISE_SESSIONS=str(options.sessions))
            )
            for _ in range(2)
        )
        runner = stack.enter_context(asyncio.Runner())
        channels = [runner.run(connected(served)) for served in (small, large)]
        few, many = Crowd(small, channels[0]), Crowd(large, channels[1])
        expected = runner.run(few.open(_STREAMS))
        before_bytes = large.resident_bytes()
        if runner.run(many.open(options.sessions)).tobytes() != expected.tobytes():
            raise RuntimeError("the two servers answer differently")
        reports = [
            _memory((large.resident_bytes() - before_bytes) / options.sessions),
            _steps(runner, few, many, small, large, seconds=options.seconds, rounds=options.rounds),
        ]
        idle = runner.run(many.idle_streams(options.idle_streams))
        print(f"\n{len(idle)} idle streams, {options.sessions} idle sessions", file=sys.stderr)
        reports.append(Report("idle"))
        share = runner.run(idle_share(large, seconds=options.idle_seconds))
        reports[-1].add("share of a core", percent=100 * share, aim=1.0)
        for channel in channels:
            runner.run(channel.close())
    if options.json:
        write_json(options.json, reports)


def _memory(session_bytes: float) -> Report:
    print(f"\nmemory of a session, raw state {_STATE_BYTES} bytes", file=sys.stderr)
    report = Report("memory")
    report.add("bytes a session", resident=session_bytes, aim=3 * _STATE_BYTES + 300)
    return report


def _steps(
    runner: asyncio.Runner,
    few: Crowd,
    many: Crowd,
    small: Served,
    large: Served,
    *,
    seconds: float,
    rounds: int,
) -> Report:
    print(f"\n{_STREAMS} streams, one step a message, each session in turn", file=sys.stderr)

    async def visiting(crowd: Crowd) -> list[VisitingStream]:
        return crowd.visitors(_STREAMS)

    crowds = {"few": (few, small), "many": (many, large)}
    opened = {name: runner.run(visiting(crowd)) for name, (crowd, _) in crowds.items()}

    def measure(name: str) -> dict[str, float]:
        return runner.run(load(opened[name], crowds[name][1], seconds=seconds))

    for streams in opened.values():
        runner.run(_check(streams[0]))
    samples = interleaved({name: partial(measure, name) for name in crowds}, rounds=rounds)
    report = Report("steps")
    found = {name: medians(values) for name, values in samples.items()}
    for name, (crowd, _) in crowds.items():
        report.add(f"{len(crowd.handles)} open", **found[name])
    report.add("ratio", cpu=found["many"]["cpu_us"] / found["few"]["cpu_us"], aim=1.2)
    return report


if __name__ == "__main__":
    main()
