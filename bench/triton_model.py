"""Serves the LSTM as a model of Triton's Python backend: onnxruntime runs it, an array holds its states.

This module runs inside Triton's environment and imports nothing of this project.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

_MOST_SESSIONS = 4096


class TritonPythonModel:
    """One instance of the model; Triton calls it with the requests that its sequence batcher gathered."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads `model.onnx` from the folder of this file."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        states = next(entry for entry in self.session.get_inputs() if entry.name == "state")
        self.states = np.zeros((_MOST_SESSIONS, states.shape[1]), np.float32)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Steps each sequence once, in one run."""

        def column(name: str) -> np.ndarray:
            tensors = [triton.get_input_tensor_by_name(request, name) for request in requests]
            return np.concatenate([tensor.as_numpy() for tensor in tensors])

        slots = column("CORRID").reshape(-1)
        self.states[slots[column("START").reshape(-1) != 0]] = 0
        feeds = {
            "x": column("x")[None],
            "lengths": np.ones(len(slots), np.int32),
            "state": self.states[slots],
        }
        y, self.states[slots] = self.session.run(["y", "state_out"], feeds)
        return [triton.InferenceResponse([triton.Tensor("y", row[None])]) for row in y[0].astype(np.float32)]
