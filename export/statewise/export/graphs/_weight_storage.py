"""Stores the weights of a graph in fewer bytes: in float16, or in 8 bits with inputs quantised at run time.

Neither trains for it nor makes a graph faster in general. float16 applies to matrices alone, and loading the
graph turns them into float32 again, so only the file is smaller. With 8 bits a whole batch shares one scale
of its inputs: a row's result depends on its neighbours, and the model is of the class unsafe.
"""

import tempfile
from enum import StrEnum
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from statewise.export.base import UnsupportedNetwork

FLOAT16_SUFFIX = ".float16"

_FLOAT16_MAX = float(np.finfo(np.float16).max)


class Weights(StrEnum):
    """How a package stores weights."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def store_as(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Stores the model's matrices in this way.

    Raises:
        UnsupportedNetwork: a weight too large for float16.
    """
    match weights:
        case Weights.FLOAT32:
            return model
        case Weights.FLOAT16:
            return _as_float16(model)
        case Weights.INT8:
            return _as_int8(model)


def _as_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    casts = []
    for tensor in stored.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.ndim < 2:
            continue
        if np.abs(array).max() > _FLOAT16_MAX:
            raise UnsupportedNetwork(
                f"{tensor.name}: expected weights up to {_FLOAT16_MAX:g} in float16; "
                f"got {np.abs(array).max():g}"
            )
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + FLOAT16_SUFFIX))
        casts.append(
            helper.make_node("Cast", [name + FLOAT16_SUFFIX], [name], name=name, to=TensorProto.FLOAT)
        )
    nodes = [*casts, *stored.graph.node]
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    return stored


def _as_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    # Slow to import, and needed only here.
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = onnx.ModelProto()
    source.CopyFrom(model)
    # Without this entry the quantiser logs advice to fuse operators first; there are none to fuse.
    source.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        quantize_dynamic(source, file, weight_type=QuantType.QInt8)
        stored = onnx.load(file)
    del stored.metadata_props[:]
    stored.metadata_props.extend(model.metadata_props)
    return stored
