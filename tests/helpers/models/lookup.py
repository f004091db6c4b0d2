"""Writes a model that looks tokens up: onnxruntime fails on those that are out of range."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, TensorSpec


def write_lookup(root: Path) -> None:
    """Writes `lookup`, which gives [2, 3] for token 1, and so on from 0 to 3; its metadata names no range.

    Its state is the last output.
    """
    spec = ModelSpec(
        inputs=(TensorSpec("x", "int64", ()),),
        outputs=(TensorSpec("y", "float32", (2,)),),
        state=(StatePair("s", "s_out", "float32", (2,)),),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["y"]),
            helper.make_node("Gather", ["y", "end"], ["last"], axis=0),
            helper.make_node("Mul", ["s", "nothing"], ["none"]),
            helper.make_node("Add", ["none", "last"], ["s_out"]),
        ],
        "look-up",
        [
            helper.make_tensor_value_info("x", TensorProto.INT64, ["T", "B"]),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, ["B", 2]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "B", 2]),
            helper.make_tensor_value_info("s_out", TensorProto.FLOAT, ["B", 2]),
        ],
        initializer=[
            numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "table"),
            numpy_helper.from_array(np.array(-1, np.int64), "end"),
            numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    (root / "lookup" / "1").mkdir(parents=True)
    onnx.save(model, root / "lookup" / "1" / "model.onnx")
