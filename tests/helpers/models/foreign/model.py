"""Describes a graph that statewise did not make, and runs it alone, one session and one step at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.arrays import Array

F, H = 3, 8
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


@dataclass(frozen=True)
class ForeignModel:
    """A graph, its model.toml, and how one step of one session is fed to the graph.

    Attributes:
        proto: The graph.
        toml: Its model.toml.
        samples: Shape of one sample of each input that a caller gives.
        feed: Turns the samples of one step into the inputs of the graph, without the state.
        state: Initial state by input, in the shape that the graph takes for one session.
        successors: State outputs by state input.
        outputs: Shape of each output of one step, as a caller gets it.
        context: How many earlier elements the graph needs in front of each sample, and the shape of a
            sample as a stretch of the stream.
        dtypes: Data types of the inputs that are not float32.
    """

    proto: onnx.ModelProto
    toml: str
    samples: Mapping[str, tuple[int, ...]]
    feed: Callable[[Mapping[str, Array]], dict[str, Array]]
    state: Mapping[str, Array]
    successors: Mapping[str, str]
    outputs: Mapping[str, tuple[int, ...]]
    context: tuple[int, tuple[int, ...]] | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def publish(self, folder: Path, *, toml: str | None = None) -> None:
        """Writes the version folder."""
        folder.mkdir(parents=True)
        onnx.save(self.proto, folder / "model.onnx")
        text = self.toml if toml is None else toml
        if text:
            (folder / "model.toml").write_text(text)

    def alone(self, steps: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """One session's outputs, [T, ...], by running the file once a step."""
        session = ort.InferenceSession(self.proto.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [*self.outputs, *self.successors.values()]
        state = dict(self.state)
        said: dict[str, list[Array]] = {name: [] for name in self.outputs}
        for step in self._with_context(steps):
            results = dict(zip(names, session.run(names, {**self.feed(step), **state}), strict=True))
            state = {before: results[after] for before, after in self.successors.items()}
            for name, shape in self.outputs.items():
                said[name].append(results[name].reshape(shape))
        return {name: np.stack(values) for name, values in said.items()}

    def _with_context(self, steps: Sequence[Mapping[str, Array]]) -> Iterator[Mapping[str, Array]]:
        if self.context is None:
            yield from steps
            return
        size, stretch = self.context
        (name,) = self.samples
        front = np.zeros((size, *stretch[1:]), np.float32)
        stream = np.concatenate([front, *(step[name].reshape(stretch) for step in steps)])
        for begin in range(0, len(steps) * stretch[0], stretch[0]):
            yield {name: stream[begin : begin + size + stretch[0]]}

    def draw(self, random: np.random.Generator, steps: int) -> list[dict[str, Array]]:
        """Samples of that many steps."""
        return [
            {name: self._sample(random, name, shape) for name, shape in self.samples.items()}
            for _ in range(steps)
        ]

    def _sample(self, random: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
        dtype = self.dtypes.get(name, "float32")
        if dtype.startswith("int"):
            return np.asarray(random.integers(0, 4, shape), dtype)
        return np.asarray(random.standard_normal(shape), dtype)


def tensor(name: str, shape: Sequence[int | str], dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def weights(seed: int, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    random = np.random.default_rng(seed)
    return [
        numpy_helper.from_array(random.uniform(-0.6, 0.6, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]


def constant(name: str, values: npt.ArrayLike, dtype: str = "int64") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    made = helper.make_graph(nodes, "foreign", inputs, outputs, initializer=constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


node = helper.make_node
