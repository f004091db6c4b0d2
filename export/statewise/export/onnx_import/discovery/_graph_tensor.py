"""Describes an input or output of a foreign graph: its name, type and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from statewise.export.base import Array, SourceError


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of the graph; text among the sizes stands for a free size."""

    name: str
    dtype: str
    sizes: tuple[int | str, ...]

    @property
    def free_axes(self) -> list[int]:
        """Axes of free size."""
        return [axis for axis, size in enumerate(self.sizes) if isinstance(size, str)]

    def with_sizes(self, sizes: Mapping[int, int]) -> "GraphTensor":
        """Returns the tensor with numbers for the sizes of some axes."""
        return replace(self, sizes=tuple(sizes.get(axis, size) for axis, size in enumerate(self.sizes)))


@dataclass(frozen=True)
class TensorAxes:
    """The axes of one input or output.

    Attributes:
        tensor: Its name, type and sizes.
        time: Axis of the time steps, or None.
        batch: Axis of the rows, or None.
        dropped: Axes of size 1 that stand for a batch of one or a single step; packages do not have them.
    """

    tensor: GraphTensor
    time: int | None = None
    batch: int | None = None
    dropped: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Of the tensor."""
        return self.tensor.name

    @property
    def order(self) -> tuple[int, ...]:
        """The kept axes in the order of packages: time, batch, the others."""
        first = [axis for axis in (self.time, self.batch) if axis is not None]
        kept = (axis for axis in range(len(self.tensor.sizes)) if axis not in (*first, *self.dropped))
        return (*first, *kept)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, without batch and time."""
        sizes = [self.tensor.sizes[axis] for axis in self.order if axis not in (self.time, self.batch)]
        assert all(isinstance(size, int) for size in sizes), "free sizes are batch or time"
        return tuple(size for size in sizes if isinstance(size, int))

    def to_foreign(self, array: Array) -> Array:
        """Returns an array in the order of packages, with the graph's order of axes."""
        kept = sorted(self.order)
        return np.expand_dims(array.transpose([self.order.index(axis) for axis in kept]), self.dropped)

    def to_package(self, array: Array) -> Array:
        """Returns an array of the graph, in the order of packages."""
        kept = sorted(self.order)
        return array.squeeze(self.dropped).transpose([kept.index(axis) for axis in self.order])


@dataclass(frozen=True)
class GraphAxes:
    """The axes of all inputs, outputs and states, and whether one run is limited to a row or a step.

    Attributes:
        inputs: In the order of the roles.
        outputs: In the order of the roles.
        state: Axes of the state inputs.
        one_row: The graph runs one row at a time.
        one_step: The graph has no time axis: it runs one step at a time.
        least_steps: The shortest sequence that the graph runs.
    """

    inputs: tuple[TensorAxes, ...]
    outputs: tuple[TensorAxes, ...]
    state: tuple[TensorAxes, ...]
    one_row: bool
    one_step: bool
    least_steps: int = 1


def graph_tensor(path: Path, entry: onnx.ValueInfoProto) -> GraphTensor:
    """Reads a tensor's description.

    Raises:
        SourceError: no tensor, or one of an unknown number of axes or an unknown type.
    """
    tensor = entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise SourceError(path, f"{entry.name!r}: expected a tensor whose number of axes the file says")
    sizes = tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param or f"{entry.name}.{axis}"
        for axis, size in enumerate(tensor.shape.dim)
    )
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return GraphTensor(entry.name, dtype, sizes)
