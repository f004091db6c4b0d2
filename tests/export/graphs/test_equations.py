"""Exported graphs compute the equations of their cells, which share no code with the fast passes."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.models.oracle import CELLS, CellFields, random_network, run_row

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec

I, H, O, T = 3, 5, 2, 7  # noqa: E741
LENGTHS = [7, 1, 4]


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
def test_a_graph_is_its_cell_run_by_the_equations(
    cell: CellFields, bidirectional: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(8)
    fields = {"input_size": I, "output_size": O, "hidden_size": H, "bidirectional": bidirectional, **cell}
    exact = random_network(rng, NetworkSpec.from_dict(fields))
    single = Network(exact.spec, exact.parameters, dtype=np.float32)
    package = export_checkpoint(Checkpoint(network=single, recipe="cell"), tmp_path)
    graph = onnxruntime.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])

    x = rng.standard_normal((T, len(LENGTHS), I)).astype(np.float32)
    feed = {"x": x, "lengths": np.array(LENGTHS, np.int32)}
    if not bidirectional:
        feed["state"] = np.zeros((len(LENGTHS), exact.spec.state_size), np.float32)
    y, *states = graph.run(None, feed)

    for row, length in enumerate(LENGTHS):
        expected, memories = run_row(exact, x[:length, row].astype(np.float64))
        np.testing.assert_allclose(y[:length, row], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        for state in states:
            np.testing.assert_allclose(state[row], memories, rtol=0, atol=1e-5)
