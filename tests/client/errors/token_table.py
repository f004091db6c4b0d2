"""Writes a model whose graph fails on some of its inputs."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from statewise.wire import METADATA_KEY, CallShape, ModelSpec, TensorSpec


def write_token_table(folder: Path, *, vocabulary_size: int | None = None) -> Path:
    """Writes a repository of one model, `table`, whose graph fails on tokens of 4 and above."""
    spec = ModelSpec(
        inputs=(TensorSpec("x", "int64", (), vocabulary_size=vocabulary_size),),
        outputs=(TensorSpec("y", "float32", (2,)),),
        state=(),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    table = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "table")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["T", "B"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "B", 2])],
        initializer=[table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    (folder / "table" / "1").mkdir(parents=True)
    onnx.save(model, folder / "table" / "1" / "model.onnx")
    return folder
