"""Writes small LSTM models with onnx alone, and runs them alone in onnxruntime.

Server and client are tested against these models because the exporter had no part in them.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, TensorSpec

INPUTS, HIDDEN, OUTPUTS = 3, 8, 2

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SmallModel:
    """One model of the repository as an oracle: runs its graph alone in onnxruntime."""

    name: str
    path: Path

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return ort.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])

    def run(self, x: Array, state: Array | None = None) -> tuple[Array, Array]:
        """One sequence [T, 3] from a state [S] (zeros) to outputs ([T, 2] or [2]) and the new state."""
        session = self._session
        feeds = {"x": x[:, None], "lengths": np.array([len(x)], np.int32)}
        streamable = any(entry.name == "state" for entry in session.get_inputs())
        if streamable:
            feeds["state"] = np.zeros((1, 2 * HIDDEN), np.float32) if state is None else state[None]
        y, *successor = session.run(None, feeds)
        y = y[:, 0] if y.ndim == 3 else y[0]
        return y, successor[0][0] if successor else np.empty(0, np.float32)


@dataclass(frozen=True)
class SmallModels:
    """The models of a repository of small models."""

    repository: Path

    def find(self, name: str, version: int | None = None) -> SmallModel:
        """A model by name and version; without one, the highest."""
        versions = [int(folder.name) for folder in (self.repository / name).iterdir()]
        return SmallModel(name, self.repository / name / str(version or max(versions)) / "model.onnx")


def _lstm_weights(seed: int, *, directions: int) -> list[onnx.TensorProto]:
    random = np.random.default_rng(seed)

    def constant(name: str, *shape: int) -> onnx.TensorProto:
        values = random.standard_normal(shape).astype(np.float32) * 0.5
        return numpy_helper.from_array(values, name)

    return [
        constant("W", directions, 4 * HIDDEN, INPUTS),
        constant("R", directions, 4 * HIDDEN, HIDDEN),
        constant("B", directions, 8 * HIDDEN),
        constant("V", directions * HIDDEN, OUTPUTS),
        constant("c", OUTPUTS),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
        numpy_helper.from_array(np.array([HIDDEN], np.int64), "H"),
        numpy_helper.from_array(np.array([2 * HIDDEN], np.int64), "S"),
        numpy_helper.from_array(np.array([0, 0, -1], np.int64), "flat"),
        numpy_helper.from_array(np.array([0, -1], np.int64), "flat_final"),
    ]


def _lstm_graph(spec: ModelSpec, seed: int, *, bidirectional: bool = False) -> onnx.ModelProto:
    """x, lengths, state [B, h|c] -> LSTM -> linear head on every step, or on the final hidden state."""
    weights = _lstm_weights(seed, directions=2 if bidirectional else 1)
    per_step = spec.outputs[0].per_step
    nodes = []
    initial = ["", ""]
    if spec.state:
        nodes += [
            helper.make_node("Slice", ["state", "zero", "H", "one"], ["h_flat"]),
            helper.make_node("Slice", ["state", "H", "S", "one"], ["c_flat"]),
            helper.make_node("Unsqueeze", ["h_flat", "zero"], ["h0"]),
            helper.make_node("Unsqueeze", ["c_flat", "zero"], ["c0"]),
        ]
        initial = ["h0", "c0"]
    direction = "bidirectional" if bidirectional else "forward"
    nodes.append(
        helper.make_node(
            "LSTM", ["x", "W", "R", "B", "lengths", *initial], ["Y", "Yh", "Yc"], hidden_size=HIDDEN,
            direction=direction,
        )
    )  # fmt: skip
    if per_step:
        nodes.append(helper.make_node("Transpose", ["Y"], ["Yt"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", ["Yt", "flat"], ["hidden"]))
    else:
        nodes.append(helper.make_node("Transpose", ["Yh"], ["Yht"], perm=[1, 0, 2]))
        nodes.append(helper.make_node("Reshape", ["Yht", "flat_final"], ["hidden"]))
    nodes += [
        helper.make_node("MatMul", ["hidden", "V"], ["product"]),
        helper.make_node("Add", ["product", "c"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", INPUTS]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
    ]
    shape: list[str | int] = ["T", "B", OUTPUTS] if per_step else ["B", OUTPUTS]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    if spec.state:
        nodes += [
            helper.make_node("Squeeze", ["Yh", "zero"], ["h1"]),
            helper.make_node("Squeeze", ["Yc", "zero"], ["c1"]),
            helper.make_node("Concat", ["h1", "c1"], ["state_out"], axis=1),
        ]
        inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["B", 2 * HIDDEN]))
        outputs.append(helper.make_tensor_value_info("state_out", TensorProto.FLOAT, ["B", 2 * HIDDEN]))
    graph = helper.make_graph(nodes, "small", inputs, outputs, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    onnx.checker.check_model(model)
    return model


def _spec(*, per_step: bool, streamable: bool = True) -> ModelSpec:
    return ModelSpec(
        inputs=(TensorSpec("x", "float32", (INPUTS,)),),
        outputs=(TensorSpec("y", "float32", (OUTPUTS,), per_step=per_step),),
        state=(StatePair("state", "state_out", "float32", (2 * HIDDEN,)),) if streamable else (),
        call_shapes=(CallShape.MANY_TO_MANY if per_step else CallShape.MANY_TO_ONE,),
        lengths="lengths",
        labels=() if per_step else ("left", "right"),
    )


def write_small_models(root: Path) -> None:
    """Writes a repository of four models with inputs [3] and outputs [2].

    `steps` 1 and 2: LSTM, an output a step; `last`: LSTM, one output a sequence; `both`: bidirectional LSTM,
    an output a step, not streamable.
    """
    for name, version, seed, spec in (
        ("steps", 1, 1, _spec(per_step=True)),
        ("steps", 2, 2, _spec(per_step=True)),
        ("last", 1, 3, _spec(per_step=False)),
        ("both", 1, 4, _spec(per_step=True, streamable=False)),
    ):
        folder = root / name / str(version)
        folder.mkdir(parents=True)
        onnx.save(_lstm_graph(spec, seed, bidirectional=name == "both"), folder / "model.onnx")
