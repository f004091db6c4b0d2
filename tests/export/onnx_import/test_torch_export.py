"""Imports what PyTorch's own ONNX exporters write."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.foreign_graphs import HIDDEN, INPUTS, run_package, sequence

from statewise.export import import_onnx, verify_package


@pytest.mark.parametrize(
    ("kind", "layers", "dynamo"),
    # A second LSTM in one process comes out of the dynamo exporter with its free sizes frozen.
    [("LSTM", 1, False), ("LSTM", 2, False), ("GRU", 2, False), ("LSTM", 1, True), ("GRU", 2, True)],
)
def test_graphs_that_pytorch_exports(tmp_path: Path, kind: str, layers: int, dynamo: bool) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(INPUTS, HIDDEN, num_layers=layers, batch_first=True)
            self.fc = torch.nn.Linear(HIDDEN, 2)

        def forward(self, x: Any, *state: Any) -> Any:
            y, after = self.rnn(x, state if kind == "LSTM" else state[0])
            return self.fc(y), after

    module = Model().eval()
    count = 2 if kind == "LSTM" else 1
    example = (torch.zeros(3, 5, INPUTS), *(torch.zeros(layers, 3, HIDDEN) for _ in range(count)))
    file = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch, steps = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("steps", min=1, max=512)
            shapes = ({0: batch, 1: steps}, tuple({1: batch} for _ in range(count)))
            program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=shapes, verbose=False)
            program.save(file, external_data=False)
        else:
            names = ["x", "h0", "c0"][: 1 + count]
            axes = {"x": {0: "batch", 1: "time"}, "h0": {1: "batch"}, "c0": {1: "batch"}}
            dynamic = {name: axes[name] for name in names}
            torch.onnx.export(module, example, file, input_names=names, dynamic_axes=dynamic, dynamo=False)
    package = import_onnx(file, tmp_path / "repository")
    x = sequence()

    y, (state,) = run_package(package, x)
    with torch.no_grad():
        zeros = [torch.zeros(layers, 4, HIDDEN)] * count
        expected, after = module(torch.from_numpy(x).transpose(0, 1), *zeros)

    np.testing.assert_allclose(y, expected.transpose(0, 1).numpy(), atol=1e-5)
    final = np.concatenate(
        [h.numpy().swapaxes(0, 1).reshape(4, -1) for h in (after if count == 2 else [after])], axis=1
    )
    np.testing.assert_allclose(state, final, atol=1e-5)
    assert verify_package(package).passed
