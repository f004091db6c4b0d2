"""Measures Predict over many sequences of different lengths, next to the in-process loop."""

import asyncio
import time
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
from bench import ragged
from bench.harness import Report, Served, interleaved, medians

from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor, pack_uint32, to_tensor, unpack_uint32

_PREDICT = "/statewise.v1.SequenceService/Predict"
_ROWS = 2_500
"""Rows of one request: about 2 MB of inputs."""
_IN_FLIGHT = 2


def requests(model: str, rows: list[np.ndarray]) -> list[bytes]:
    """Encodes the sequences as requests, before the clock starts."""
    encoded = []
    for begin in range(0, len(rows), _ROWS):
        chosen = rows[begin : begin + _ROWS]
        request = sequence_pb2.PredictRequest(
            model=model,
            lengths=pack_uint32([len(row) for row in chosen]),
            inputs={"x": to_tensor(np.concatenate(chosen))},
        )
        encoded.append(request.SerializeToString())
    return encoded


async def _ask(address: str, encoded: list[bytes]) -> list[list[bytes]]:
    """Sends all requests, some at a time; returns the replies of each request in order of arrival."""
    room = asyncio.Semaphore(_IN_FLIGHT)
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    ) as channel:

        async def one(request: bytes) -> list[bytes]:
            async with room:
                return [reply async for reply in channel.unary_stream(_PREDICT)(request)]

        return await asyncio.gather(*(one(request) for request in encoded))


def predicted(address: str, encoded: list[bytes], count: int) -> np.ndarray:
    """Sends all requests; returns outputs in the order of the rows."""
    outputs = np.full((count, 9), np.nan, np.float32)
    for number, replies in enumerate(asyncio.run(_ask(address, encoded))):
        for reply in map(sequence_pb2.PredictResponse.FromString, replies):
            outputs[number * _ROWS + unpack_uint32(reply.rows)] = from_tensor(reply.outputs["y"])
    return outputs


def _served(server: Served, encoded: list[bytes], count: int) -> dict[str, float]:
    cpu, begun = server.cpu_s(), time.perf_counter()
    asyncio.run(_ask(server.address, encoded))
    return _figures(server.cpu_s() - cpu, time.perf_counter() - begun, count)


def _alone(session: ort.InferenceSession, rows: list[np.ndarray]) -> dict[str, float]:
    cpu, begun = time.process_time(), time.perf_counter()
    ragged.in_process(session, rows)
    return _figures(time.process_time() - cpu, time.perf_counter() - begun, len(rows))


def _figures(cpu_s: float, elapsed_s: float, count: int) -> dict[str, float]:
    return {"cpu_us": cpu_s / count * 1e6, "per_s": count / elapsed_s}


def compare(server: Served, repository: Path, *, size: int, count: int, rounds: int) -> Report:
    """Measures rows a second and CPU a row of both, and the server's share of the loop's speed."""
    report = Report(f"Predict of {count} ragged sequences, H={size}")
    rows = ragged.sequences(count)
    encoded = requests(f"ragged{size}", rows)
    session = ragged.single_threaded(repository, size)
    np.testing.assert_allclose(
        predicted(server.address, encoded, count), ragged.in_process(session, rows), rtol=1e-5, atol=1e-6
    )
    measures = {"loop": partial(_alone, session, rows), "statewise": partial(_served, server, encoded, count)}
    found = {name: medians(samples) for name, samples in interleaved(measures, rounds=rounds).items()}
    for name, figures in found.items():
        report.add(name, **figures)
    loop, ours = found["loop"], found["statewise"]
    report.add("share", per_s=ours["per_s"] / loop["per_s"], cpu=loop["cpu_us"] / ours["cpu_us"])
    return report
