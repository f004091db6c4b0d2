"""Gives files that onnxruntime cannot load, and reads why: in our words, without a path."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from statewise.service.base import ServiceError
from statewise.service.engine import EngineError, load_engine
from statewise.service.packages import read_package
from statewise.wire import ModelSpec


def graph(
    operator: str = "Identity", *, domain: str = "", taken: str = "x", opset: int = 17, ir: int = 8
) -> bytes:
    node = helper.make_node(operator, [taken], ["y"], domain=domain)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy")
    opsets = [helper.make_opsetid(name, version) for name, version in {"": opset, domain: opset}.items()]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=ir)
    return bytes(model.SerializeToString())


WEIGHTS_OF_OTHER_TYPE = onnx.parser.parse_model("""
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2] x) => (float[n, 2] y) {
    w = Constant<value = int64[2] {1, 2}>()
    y = Add(x, w)
}
""").SerializeToString()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no graph", "it is no ONNX file, or a damaged one"),
        (b"", "it is no ONNX file, or a damaged one"),
        (graph("Frobnicate"), "opset 17 has no operator Frobnicate"),
        (graph("Bar", domain="com.foo"), "the operator com.foo:Bar is not known"),
        (graph(opset=99), r"expected an opset up to \d+; got 99"),
        (graph(ir=99), r"expected an IR version up to \d+; got 99"),
        (graph(taken="z"), "a node takes 'z', which nothing gives"),
        (WEIGHTS_OF_OTHER_TYPE, "the inputs of an operator Add are of different types"),
    ],
    ids=["text", "empty", "unknown", "foreign", "new opset", "new format", "dangling", "types"],
)
def test_a_file_that_cannot_be_loaded(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    spec = ModelSpec(inputs=(), outputs=(), state=(), call_shapes=())
    with pytest.raises(ServiceError, match=f"^m/1/model.onnx: onnxruntime cannot load it: {why}$") as refused:
        read_package("m", 1, tmp_path)
    with pytest.raises(EngineError, match=f"^model.onnx: onnxruntime cannot load it: {why}$") as failed:
        load_engine(file, spec)
    for error in (refused.value, failed.value):
        assert "ONNXRuntimeError" in str(error.__cause__)
