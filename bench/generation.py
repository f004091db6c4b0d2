"""128 tokens three ways: one Loop run, 128 engine calls, 128 client round trips.

    python -m bench.generation [--json FILE] [--rounds N]

The model is as large as the bundled names recipe, untrained. All three draw with the same uniform numbers,
and their tokens are compared before anything is timed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from bench.harness import Report, interleaved, medians, pin_client, serving, statewise_server, write_json

from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec, draw_tokens

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network = Network.initialise(SPEC, rng=np.random.default_rng(0))
        package = export_checkpoint(Checkpoint(network=network), folder, name="names")
        pin_client()
        with serving(statewise_server(Path(folder))) as served, Client(served.address) as client:
            reports = [measure(package, client, rows, arguments.rounds) for rows in (1, 64)]
    if arguments.json:
        write_json(arguments.json, reports)


def measure(package: Path, client: Client, rows: int, rounds: int) -> Report:
    read, write = session(package / "model.onnx"), session(package / "generate.onnx")
    noise = np.random.default_rng(1).random((STEPS, rows), np.float32)
    begin, one = np.full((1, rows), BEGIN, np.int32), np.ones(rows, np.int32)
    zeros = np.zeros((rows, SPEC.state_size), np.float32)
    y, start = read.run(["y", "state_out"], {"x": begin, "lengths": one, "state": zeros})
    whole = np.full(rows, STEPS, np.int32)

    def loop() -> np.ndarray:
        sampling = {"temperature": np.ones(rows, np.float32), "top_k": 0 * one, "stop": -one}
        return write.run(["emitted"], {"state": start, "remaining": whole, "noise": noise, **sampling})[0]

    def engine_calls() -> np.ndarray:
        last, state, said = y[0], start, []
        for numbers in noise:
            said.append(draw_tokens(last, numbers).astype(np.int32))
            fed = {"x": said[-1][None], "lengths": one, "state": state}
            outputs, state = read.run(["y", "state_out"], fed)
            last = outputs[0]
        return np.array(said)

    def round_trips() -> np.ndarray:
        with client.sessions("names", count=rows) as group:
            last, said = group.step(begin[0]), []
            for numbers in noise:
                said.append(draw_tokens(last, numbers).astype(np.int32))
                last = group.step(said[-1])
        return np.array(said)

    ways = {"one Loop run": loop, "128 engine calls": engine_calls, "128 client round trips": round_trips}
    expected = loop()
    for name, way in ways.items():
        if not np.array_equal(way(), expected):
            raise RuntimeError(f"{name}: other tokens than the Loop's")

    def timed(way):
        def measured() -> dict[str, float]:
            begun = time.perf_counter()
            way()
            return {"us_per_step": (time.perf_counter() - begun) / STEPS * 1e6}

        return measured

    samples = interleaved({name: timed(way) for name, way in ways.items()}, rounds=rounds)
    base = [sample["us_per_step"] for sample in samples["one Loop run"]]
    report = Report(f"{STEPS} tokens, {rows} rows")
    print(report.title)
    for name, measured in samples.items():
        ratios = [sample["us_per_step"] / least for sample, least in zip(measured, base, strict=True)]
        report.add(name, **medians(measured), times_loop=float(np.median(ratios)))
    return report


if __name__ == "__main__":
    main()
