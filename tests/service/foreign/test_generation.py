"""Generates with a foreign graph that model.toml declares a generator; the server feeds its outputs back."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.caller import connect

from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2
from statewise.v1.tensor_pb2 import TextRows
from statewise.wire import pack_uint32

WORDS, H = 5, 6

TOML = """
[[inputs]]
name = "word"
axes = ["batch"]
vocabulary_size = 5

[[outputs]]
name = "chances"
axes = ["batch", 5]

[[state]]
input = "s"
output = "s_out"
axes = [6, "batch"]

[generate]
input = "word"
emitted = { name = "word", dtype = "int64", shape = [], vocabulary_size = 5 }
sampled = true
graph = false

[vocabulary]
tokens = ["a", "b", "c", "d", "e"]
"""


def babbler() -> onnx.ModelProto:
    """One word a run; a state with rows last."""
    random = np.random.default_rng(3)
    weights = {"table": (WORDS, H), "R": (H, H), "V": (H, WORDS)}
    nodes = [
        helper.make_node("Transpose", ["s"], ["before"], perm=[1, 0]),
        helper.make_node("Gather", ["table", "word"], ["row"], axis=0),
        helper.make_node("MatMul", ["before", "R"], ["kept"]),
        helper.make_node("Add", ["row", "kept"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["after"]),
        helper.make_node("Transpose", ["after"], ["s_out"], perm=[1, 0]),
        helper.make_node("MatMul", ["after", "V"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["chances"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "babbler",
        [
            helper.make_tensor_value_info("word", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [H, "N"]),
        ],
        [
            helper.make_tensor_value_info("chances", TensorProto.FLOAT, ["N", WORDS]),
            helper.make_tensor_value_info("s_out", TensorProto.FLOAT, [H, "N"]),
        ],
        initializer=[
            numpy_helper.from_array((2 * random.standard_normal(shape)).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def greedy(model: onnx.ModelProto, prompt: str, steps: int) -> str:
    """The likeliest words after a prompt, by the graph alone."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state, said = np.zeros((H, 1), np.float32), ""
    todo = ["abcde".index(letter) for letter in prompt]
    while len(said) < steps:
        for word in todo:
            chances, state = session.run(["chances", "s_out"], {"word": np.array([word]), "s": state})
        todo = [int(chances.argmax())]
        said += "abcde"[todo[0]]
    return said


async def test_a_foreign_graph_babbles_as_it_does_alone(tmp_path: Path) -> None:
    folder = tmp_path / "babbler" / "1"
    folder.mkdir(parents=True)
    model = babbler()
    onnx.save(model, folder / "model.onnx")
    (folder / "model.toml").write_text(TOML)
    prompts = ["a", "bde", "cc"]
    request = sequence_pb2.GenerateRequest(
        model="babbler", rows=3, prompt_text=TextRows(rows=prompts), steps=pack_uint32([12] * 3)
    )
    request.sampling.temperature.append(0.0)
    said = ["", "", ""]
    async with running_server(tmp_path) as address, connect(address) as caller:
        async for part in caller.sequences.Generate(request):
            assert not part.errors, part.errors
            for row, text in zip(np.frombuffer(part.rows, "<u4"), part.text.rows, strict=True):
                said[row] += text
    assert said == [greedy(model, prompt, 12) for prompt in prompts]
