"""Describes an input or output of a foreign graph: its name, type and sizes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from statewise.export.base import SourceError


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


def graph_tensor(path: Path, entry: onnx.ValueInfoProto) -> GraphTensor:
    """Reads a tensor's description.

    Raises:
        SourceError: no tensor, or one of an unknown number of axes.
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
