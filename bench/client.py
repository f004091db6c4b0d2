"""Measures how much of a server's speed the client library preserves: `python -m bench.client`.

Three workloads, each next to a comparable program:
- many sessions in one asyncio process, each awaiting its own steps; next to the same program written with
  tritonclient, against Triton;
- a group of sessions; next to step batches encoded beforehand, two in flight, on the same server;
- bulk scoring; next to an in-process loop that sorts by length and runs batches of 256.

Server, client and loop have one core each. The results are the ratios at the end of each part. Outputs are
compared before anything is timed.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import grpc
import numpy as np
import onnxruntime as ort
from bench import ragged
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
from bench.triton import NoTritonError, environment, triton_server, triton_steps_per_s

from statewise.client import AsyncClient, AsyncSession, Client
from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import pack_uint64, to_tensor

_SIZE = 64
_HIDDEN = 128
_RAGGED = f"ragged{_HIDDEN}"
_GATEWAY_SESSIONS = 1000


def gateway(runner: asyncio.Runner, served: Served, *, sessions: int, seconds: float) -> dict[str, float]:
    """Steps sessions in one asyncio process, each awaiting its own steps."""
    rows = np.random.default_rng(1).standard_normal((sessions, _SIZE)).astype(np.float32)

    async def run() -> float:
        async with AsyncClient(served.address) as client:
            opened = await asyncio.gather(*(client.session(f"lstm{_SIZE}") for _ in range(sessions)))
            await asyncio.gather(*(session.step(row) for session, row in zip(opened, rows, strict=True)))
            steps = 0
            begun = time.perf_counter()
            end = begun + seconds

            async def drive(session: AsyncSession, row: np.ndarray) -> None:
                nonlocal steps
                while time.perf_counter() < end:
                    await session.step(row)
                    steps += 1

            await asyncio.gather(*(drive(session, row) for session, row in zip(opened, rows, strict=True)))
            return steps / (time.perf_counter() - begun)

    return {"steps_per_s": runner.run(run())}


def beside_triton(
    server: Served, model: Path, scratch: Path, *, sessions: int, seconds: float, rounds: int
) -> Report:
    """Measures the gateway on both servers in turn, or on ours alone if Triton cannot be installed."""
    kind = {"sessions": sessions, "seconds": seconds}
    with ExitStack() as stack:
        # One event loop for all rounds, because gRPC keeps using earlier loops.
        runner = stack.enter_context(asyncio.Runner())
        measures = {"statewise": partial(gateway, runner, server, **kind)}
        try:
            folder = environment()
            address = stack.enter_context(triton_server(folder, model, scratch))
        except NoTritonError as error:
            print(f"\nwithout Triton beside it: {error}", file=sys.stderr)
        else:
            measures["triton"] = lambda: {"steps_per_s": triton_steps_per_s(folder, address, **kind)}
        samples = interleaved(measures, rounds=rounds)
    title = f"{sessions} sessions of one asyncio process, H={_SIZE}"
    beside = "triton" if "triton" in samples else "statewise"
    return compare(title, "steps_per_s", "statewise", beside, samples)


def group(client: Client, *, sessions: int, batches: int) -> dict[str, float]:
    """Calls `sessions(...).step` repeatedly, one call after the other."""
    x = np.random.default_rng(1).standard_normal((sessions, _SIZE)).astype(np.float32)
    with client.sessions(f"lstm{_SIZE}", count=sessions) as opened:
        opened.step(x)
        begun = time.perf_counter()
        for _ in range(batches):
            opened.step(x)
        return {"steps_per_s": batches * sessions / (time.perf_counter() - begun)}


def encoded(served: Served, *, sessions: int, batches: int) -> dict[str, float]:
    """Sends step batches encoded beforehand, two in flight; checks only the length of replies."""
    x = np.random.default_rng(1).standard_normal((sessions, _SIZE)).astype(np.float32)
    with grpc.insecure_channel(
        served.address,
        options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)],
    ) as channel:
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        ids = [f"{time.time_ns()} {row}" for row in range(sessions)]
        opened = stub.OpenSessions(
            sequence_pb2.OpenSessionsRequest(model=f"lstm{_SIZE}", session_ids=ids)
        ).sessions
        request = sequence_pb2.SessionStreamRequest()
        request.step.handles = handles = pack_uint64([session.handle for session in opened])
        request.step.inputs["x"].CopyFrom(to_tensor(x))
        messages = []
        for position in range(batches + 1):
            request.request_id = position + 1
            request.step.positions = np.full(sessions, position, np.uint64).tobytes()
            messages.append(request.SerializeToString())
        room = threading.Semaphore(2)

        def sent() -> Iterator[bytes]:
            for message in messages:
                room.acquire()
                yield message

        begun = 0.0
        for reply in channel.stream_stream("/statewise.v1.SequenceService/SessionStream")(sent()):
            begun = begun or time.perf_counter()
            if len(reply) < x.nbytes:
                raise RuntimeError(str(sequence_pb2.SessionStreamResponse.FromString(reply))[:500])
            room.release()
        elapsed = time.perf_counter() - begun
        stub.CloseSessions(sequence_pb2.CloseSessionsRequest(handles=handles))
    return {"steps_per_s": batches * sessions / elapsed}


def score(client: Client, rows: list[np.ndarray]) -> dict[str, float]:
    """Scores all rows with `score`."""
    begun = time.perf_counter()
    count = sum(1 for _ in client.score(_RAGGED, rows))
    elapsed = time.perf_counter() - begun
    assert count == len(rows)
    return {"rows_per_s": count / elapsed}


def loop(session: ort.InferenceSession, rows: list[np.ndarray]) -> dict[str, float]:
    """Does the same without a server, as a careful program would."""
    begun = time.perf_counter()
    ragged.in_process(session, rows)
    return {"rows_per_s": len(rows) / (time.perf_counter() - begun)}


def compare(
    title: str, figure: str, ours: str, beside: str, samples: dict[str, list[dict[str, float]]]
) -> Report:
    """Reports the medians of both, and the median of the ratios of the rounds."""
    print(f"\n{title}", file=sys.stderr)
    report = Report(title)
    for name, found in samples.items():
        report.add(name, **medians(found))
    ratios = [a[figure] / b[figure] for a, b in zip(samples[ours], samples[beside], strict=True)]
    report.add("ratio", of_medians=median(ratios), lowest=min(ratios), highest=max(ratios))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one warm-up round")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="seconds of one measurement of the gateway"
    )
    parser.add_argument("--batches", type=int, default=300, help="step batches of one measurement")
    parser.add_argument("--sessions", type=int, default=1024, help="sessions of a group")
    parser.add_argument("--rows", type=int, default=10_000, help="sequences to score")
    parser.add_argument("--json", type=Path, help="file to which the figures are also written")
    options = parser.parse_args()
    pin_client()
    kind = {"sessions": options.sessions, "batches": options.batches}
    rows = ragged.sequences(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        repository = ragged.repository(lstm_repository(Path(folder), _SIZE), _HIDDEN)
        session = ragged.single_threaded(repository, _HIDDEN)
        with serving(statewise_server(repository)) as server, Client(server.address) as client:
            gateways = beside_triton(
                server,
                repository / f"lstm{_SIZE}" / "1" / "model.onnx",
                Path(folder) / "triton",
                sessions=_GATEWAY_SESSIONS,
                seconds=options.seconds,
                rounds=options.rounds,
            )
            found = np.array([scored.outputs for scored in client.score(_RAGGED, rows[:1000])])
            np.testing.assert_allclose(found, ragged.in_process(session, rows[:1000]), rtol=1e-5, atol=1e-6)
            groups = interleaved(
                {"encoded": partial(encoded, server, **kind), "group": partial(group, client, **kind)},
                rounds=options.rounds,
            )
            scores = interleaved(
                {"loop": partial(loop, session, rows), "score": partial(score, client, rows)},
                rounds=options.rounds,
            )
    reports = [
        gateways,
        compare(f"{options.sessions} sessions a step, H={_SIZE}", "steps_per_s", "group", "encoded", groups),
        compare(f"{options.rows} ragged sequences, H={_HIDDEN}", "rows_per_s", "score", "loop", scores),
    ]
    if options.json:
        write_json(options.json, reports)


if __name__ == "__main__":
    main()
