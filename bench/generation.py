"""Measures five ways to generate 128 tokens, in process and on a server.

    python -m bench.generation [--json FILE] [--rounds N]

In process: one run of the generation graph's Loop, or 128 engine calls. On a server: one Generate, or 128
round trips. The model has the size of the bundled recipe `names`, is untrained, and has no end token. All
ways sample with the same uniform numbers, and their tokens are compared before anything is timed.
`names_fed_back` is the same model without a generation graph: the server runs the decode loop.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import onnx
import onnxruntime
from bench.harness import Report, interleaved, medians, pin_client, serving, statewise_server, write_json

from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec, draw_tokens, uniform_numbers
from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import METADATA_KEY, from_tensor, pack_uint32, to_tensor, unpack_uint32

STEPS, BEGIN = 128, 27
SPEC = NetworkSpec(
    input_size=29,
    output_size=27,
    cell="lstm",
    hidden_size=96,
    embedding_size=24,
    head="softmax",
    call_shape="one_to_many",
)


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def without_graph(package: Path, target: Path) -> None:
    """Copies the package without its generation graph, so that the server runs the decode loop."""
    shutil.copytree(package, target)
    (target / "generate.onnx").unlink()
    model = onnx.load(target / "model.onnx")
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            spec = json.loads(entry.value)
            spec["generate"]["graph"] = False
            entry.value = json.dumps(spec)
    onnx.save(model, target / "model.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network = Network.initialise(SPEC, rng=np.random.default_rng(0))
        package = export_checkpoint(Checkpoint(network=network), folder, name="names")
        without_graph(package, Path(folder) / "names_fed_back" / "1")
        pin_client()
        with (
            serving(statewise_server(Path(folder))) as served,
            Client(served.address) as client,
            grpc.insecure_channel(served.address) as channel,
        ):
            stub = sequence_pb2_grpc.SequenceServiceStub(channel)
            reports = [measure(package, client, stub, rows, arguments.rounds) for rows in (1, 64)]
    if arguments.json:
        write_json(arguments.json, reports)


def generate(stub: sequence_pb2_grpc.SequenceServiceStub, model: str, rows: int) -> np.ndarray:
    """Makes one Generate call with a separate seed for each row; returns tokens [STEPS, rows]."""
    request = sequence_pb2.GenerateRequest(
        model=model,
        rows=rows,
        steps=pack_uint32([STEPS]),
        condition={"x": to_tensor(np.full(rows, BEGIN, np.int32))},
        sampling=sequence_pb2.Sampling(seed=range(rows)),
    )
    drawn: list[list[np.ndarray]] = [[] for _ in range(rows)]
    for reply in stub.Generate(request):
        lengths = unpack_uint32(reply.lengths)
        for tensor in reply.outputs.values():
            parts = np.split(from_tensor(tensor), np.cumsum(lengths)[:-1])
            for row, tokens in zip(unpack_uint32(reply.rows).tolist(), parts, strict=True):
                drawn[row].append(tokens)
    return np.stack([np.concatenate(row) for row in drawn], axis=1)


def measure(
    package: Path, client: Client, stub: sequence_pb2_grpc.SequenceServiceStub, rows: int, rounds: int
) -> Report:
    read, write = session(package / "model.onnx"), session(package / "generate.onnx")
    noise = np.stack([uniform_numbers(seed, 1, STEPS) for seed in range(rows)], axis=1)
    begin, one = np.full((1, rows), BEGIN, np.int32), np.ones(rows, np.int32)
    zeros = np.zeros((rows, SPEC.state_size), np.float32)
    y, start = read.run(["y", "state_out"], {"x": begin, "lengths": one, "state": zeros})
    whole = np.full(rows, STEPS, np.int32)

    def loop() -> np.ndarray:
        sampling = {"temperature": np.ones(rows, np.float32), "top_k": 0 * one, "stop": -one}
        return write.run(["emitted"], {"state": start, "remaining": whole, "noise": noise, **sampling})[0]

    def engine_calls() -> np.ndarray:
        last, state, drawn = y[0], start, []
        for numbers in noise:
            drawn.append(draw_tokens(last, numbers).astype(np.int32))
            fed = {"x": drawn[-1][None], "lengths": one, "state": state}
            outputs, state = read.run(["y", "state_out"], fed)
            last = outputs[0]
        return np.array(drawn)

    def round_trips() -> np.ndarray:
        with client.sessions("names", count=rows) as group:
            last, drawn = group.step(begin[0]), []
            for numbers in noise:
                drawn.append(draw_tokens(last, numbers).astype(np.int32))
                last = group.step(drawn[-1])
        return np.array(drawn)

    ways = {
        "one Loop run, in process": loop,
        "128 engine calls, in process": engine_calls,
        "one Generate": lambda: generate(stub, "names", rows),
        "one Generate, decode loop of the server": lambda: generate(stub, "names_fed_back", rows),
        "128 client round trips": round_trips,
    }
    return compare(ways, rows, rounds)


def timed(way: Callable[[], np.ndarray]) -> dict[str, float]:
    begun = time.perf_counter()
    way()
    return {"us_per_step": (time.perf_counter() - begun) / STEPS * 1e6}


def compare(ways: dict[str, Callable[[], np.ndarray]], rows: int, rounds: int) -> Report:
    """Checks that all ways give the same tokens, and times them in turn."""
    expected = next(iter(ways.values()))()
    for name, way in ways.items():
        if not np.array_equal(way(), expected):
            raise RuntimeError(f"{name}: other tokens than the Loop's")
    samples = interleaved({name: partial(timed, way) for name, way in ways.items()}, rounds=rounds)
    base = {name: [sample["us_per_step"] for sample in measured] for name, measured in samples.items()}
    report = Report(f"{STEPS} tokens, {rows} rows")
    print(report.title)
    for name, measured in samples.items():
        ratios = {
            key: float(np.median(np.array(base[name]) / base[least]))
            for key, least in (("times_loop", "one Loop run, in process"), ("times_generate", "one Generate"))
        }
        report.add(name, **medians(measured), **ratios)
    return report


if __name__ == "__main__":
    main()
