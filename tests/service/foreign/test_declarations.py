"""Serves graphs whose metadata or model.toml declare what the graph does not show: axes, defaults, labels."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from tests.helpers.caller import connect, read_answer
from tests.helpers.models.foreign import MODELS
from tests.service.foreign.stepping import advance

from statewise.service.testing import running_server
from statewise.v1 import model_pb2, sequence_pb2
from statewise.wire import (
    METADATA_KEY,
    CallShape,
    ModelSpec,
    StatePair,
    TensorSpec,
    from_tensor,
    pack_uint32,
)


async def test_callers_see_one_sample_and_not_the_graph(tmp_path: Path) -> None:
    for name in ("one_row", "window"):
        MODELS[name]().publish(tmp_path / name / "1")
    async with running_server(tmp_path) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
    seen = {
        model.name: [
            (
                entry.name,
                list(entry.shape),
                entry.per_step,
                entry.default_value if entry.HasField("default_value") else None,
            )
            for entry in [*model.inputs, *model.outputs]
        ]
        for model in listed
    }
    assert seen == {
        "one_row": [("frame", [3], True, None), ("sr", [], False, 2.0), ("speech", [], True, None)],
        "window": [("x", [3], True, None), ("y", [3], True, None)],
    }
    assert [(model.state_bytes, model.streamable) for model in listed] == [
        (2 * 8 * 4, True),
        (3 * 3 * 4, True),
    ]


async def test_metadata_may_say_that_rows_are_another_axis_of_the_state(
    tmp_path: Path, random: np.random.Generator
) -> None:
    foreign = MODELS["lengths"]()
    spec = ModelSpec(
        inputs=(TensorSpec("x", "float32", (3,)),),
        outputs=(TensorSpec("y", "float32", (8,)),),
        state=(
            StatePair("h0", "hn", "float32", (1, 8), batch_axis=1),
            StatePair("c0", "cn", "float32", (1, 8), batch_axis=1),
        ),
        call_shapes=(CallShape.MANY_TO_MANY,),
        lengths="n",
    )
    onnx.helper.set_model_props(foreign.proto, {METADATA_KEY: spec.to_json()})
    foreign.publish(tmp_path / "m" / "1", toml="")
    own = [foreign.draw(random, 3), foreign.draw(random, 7)]
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("m", "a", "b")
        y = (await advance(caller, [(handle, 0) for handle in handles], own))["y"]
    expected = [foreign.alone(steps)["y"] for steps in own]
    assert y.tobytes() == np.concatenate(expected).tobytes()


async def test_model_toml_overrides_what_metadata_says(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "last" / "1").mkdir(parents=True)
    source = repository / "last" / "1" / "model.onnx"
    (tmp_path / "last" / "1" / "model.onnx").write_bytes(source.read_bytes())
    (tmp_path / "last" / "1" / "model.toml").write_text(
        'labels = ["no", "yes"]\n[[inputs]]\nname = "x"\ndefault = 0.5\n[[state]]\ninput = "state"\n'
        'output = "state_out"\ninitial = 0.25\n[notes]\nwhose = "ours"\n'
    )
    async with running_server(tmp_path) as address, connect(address) as caller:
        model = (await caller.models.GetModel(model_pb2.GetModelRequest(name="last"))).model
        assert (list(model.labels), dict(model.notes)) == (["no", "yes"], {"whose": "ours"})
        assert model.inputs[0].default_value == 0.5
        assert model.exactness == model_pb2.EXACTNESS_EXACT
        asked = sequence_pb2.PredictRequest(model="last", lengths=pack_uint32([3]), return_labels=True)
        reply = await read_answer(caller.sequences.Predict(asked))
    session = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    feeds = {"x": np.full((3, 1, 3), 0.5, np.float32), "lengths": np.array([3], np.int32)}
    y = session.run(["y"], {**feeds, "state": np.full((1, 16), 0.25, np.float32)})[0]
    assert from_tensor(reply.outputs["y"]).tobytes() == y.tobytes()
    assert list(reply.labels) == [("no", "yes")[int(y.argmax())]]
