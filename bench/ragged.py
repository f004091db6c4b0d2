"""Makes sequences with the lengths of the vowels data, and runs them in process."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec, load_dataset

BATCH = 256
"""Rows of one run."""
_OUTPUTS = 9


def repository(root: Path, *sizes: int) -> Path:
    """Makes untrained models `ragged<H>` with the shapes of the recipe `vowels`."""
    for size in sizes:
        spec = NetworkSpec(
            input_size=12,
            output_size=_OUTPUTS,
            cell="lstm",
            hidden_size=size,
            head="softmax",
            call_shape="many_to_one",
        )
        network = Network.initialise(spec, rng=np.random.default_rng(1))
        export_checkpoint(Checkpoint(network=network, recipe="bench"), root, name=f"ragged{size}")
    return root


def sequences(count: int) -> list[np.ndarray]:
    """Draws utterances of the vowels data at random, with repetition."""
    utterances = load_dataset("vowels").train
    chosen = np.random.default_rng(1).integers(len(utterances), size=count)
    return [np.ascontiguousarray(utterances[index], np.float32) for index in chosen]


def single_threaded(root: Path, size: int) -> ort.InferenceSession:
    """Loads the graph in onnxruntime with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = root / f"ragged{size}" / "1" / "model.onnx"
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def in_process(session: ort.InferenceSession, rows: list[np.ndarray]) -> np.ndarray:
    """Runs rows sorted by length, padded, in batches of 256; outputs [N, 9] are in the order of `rows`."""
    [state_size] = [entry.shape[1] for entry in session.get_inputs() if entry.name == "state"]
    lengths = np.array([len(row) for row in rows], np.int32)
    order = np.argsort(lengths, kind="stable")
    outputs = np.empty((len(rows), _OUTPUTS), np.float32)
    for begin in range(0, len(rows), BATCH):
        chosen = order[begin : begin + BATCH]
        x = np.zeros((int(lengths[chosen].max()), len(chosen), 12), np.float32)
        for place, row in enumerate(chosen):
            x[: lengths[row], place] = rows[row]
        state = np.zeros((len(chosen), state_size), np.float32)
        y, _ = session.run(["y", "state_out"], {"x": x, "lengths": lengths[chosen], "state": state})
        outputs[chosen] = y
    return outputs
