"""Loads repositories: versions, defaults, packages that cannot be served, and the engine's profile."""

import gc
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.caller import connect

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane import Dataplane
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
    to_tensor,
    unpack_uint32,
)


async def load(repository: Path) -> Dataplane:
    dataplane = build_dataplane(
        Settings(repository=repository, load_in_child=False), executor=ThreadPoolExecutor(1)
    )
    await dataplane.models.load_all()
    return dataplane


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository that a test may spoil: `last` alone."""
    shutil.copytree(repository / "last", tmp_path / "last")
    return tmp_path


def respell(path: Path, change: Callable[[ModelSpec], str]) -> None:
    """Rewrites a model's metadata."""
    model = onnx.load(path)
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    entry.value = change(ModelSpec.from_json(entry.value))
    onnx.save(model, path)


async def test_the_default_is_the_highest_version_unless_the_model_says_otherwise(
    repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(repository / "steps", tmp_path / "steps")
    assert (await load(tmp_path)).models.default_version("steps") == 2
    (tmp_path / "steps" / "model.toml").write_text("default_version = 1\n")
    assert (await load(tmp_path)).models.default_version("steps") == 1
    (tmp_path / "steps" / "model.toml").write_text("default_version = 7\n")
    assert (await load(tmp_path)).models.default_version("steps") == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("default_version = 7", "steps/model.toml: default_version = 7 is not served"),
        ("default_version = 'one'", "expected a version, a whole number from 1; got 'one'"),
        ("default_version = true", "expected a version, a whole number from 1; got True"),
        ("default = 1", "default: no entry of that name is known; expected default_version (line 1)"),
        ("default_version", "steps/model.toml: Expected '='"),
        ("default_version = " + 5000 * "[", "steps/model.toml: maximum recursion depth exceeded"),
    ],
)
async def test_a_rollback_that_cannot_be_is_said_once_and_where_people_look(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, words: str
) -> None:
    shutil.copytree(repository / "steps", tmp_path / "steps")
    (tmp_path / "steps" / "model.toml").write_text(text)
    models = (await load(tmp_path)).models
    await models.follow()
    assert models.default_version("steps") == 2
    assert [(status.version, words in status.trouble) for status in models.statuses()] == [
        (1, False),
        (2, True),
    ]
    assert sum(words in record.getMessage() for record in caplog.records) == 1
    (tmp_path / "steps" / "model.toml").write_text("default_version = 1")
    await models.follow()
    assert models.default_version("steps") == 1
    assert [status.trouble for status in models.statuses()] == ["", ""]


async def test_folders_that_are_no_versions_are_passed_over(copy: Path) -> None:
    for name in (".half-written", "notes", "0", "01"):
        shutil.copytree(copy / "last" / "1", copy / "last" / name)
    models = (await load(copy)).models
    assert [loaded.package.version for loaded in models] == [1]
    assert [status.trouble for status in models.statuses()] == [""]


@pytest.mark.parametrize("name", ["a b", "é", 'q"{}\\', "x" * 129, "a\nb", "a,b=c"])
async def test_a_folder_whose_name_no_request_may_have_is_no_model(
    copy: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    shutil.copytree(copy / "last", copy / name)
    models = (await load(copy)).models
    await models.follow()
    assert [loaded.package.name for loaded in models] == ["last"]
    assert [status.name for status in models.statuses()] == ["last"]
    (line,) = [one.getMessage() for one in caplog.records if "is no model" in one.getMessage()]
    assert line.isprintable()
    assert line.isascii()


@pytest.mark.parametrize("name", ["x" * 128, "A-b_c.9", "-rf", "9"])
async def test_other_names_are_those_of_models(copy: Path, name: str) -> None:
    shutil.copytree(copy / "last", copy / name)
    assert (await load(copy)).models.find(name).package.name == name


async def test_the_digest_covers_every_file(copy: Path) -> None:
    digest = (await load(copy)).models.find("last").package.digest
    assert digest == (await load(copy)).models.find("last").package.digest
    (copy / "last" / "1" / "readme.txt").write_text("a note")
    assert digest != (await load(copy)).models.find("last").package.digest


def _drop_metadata(path: Path) -> None:
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "has no model.onnx"),
        (lambda path: path.write_bytes(b"no graph"), "onnxruntime cannot load it"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "onnxruntime cannot load it"),
        (_drop_metadata, "has no 'statewise' metadata"),
        (lambda path: respell(path, lambda spec: "{"), "is no JSON"),
        (lambda path: respell(path, lambda spec: spec.to_json().replace('"x"', '"z"')), "input 'z'"),
        (lambda path: respell(path, lambda spec: spec.to_json().replace("[3]", "[4]")), "input 'x'"),
        (lambda path: respell(path, lambda spec: spec.to_json().replace("float32", "float64")), "'x'"),
        (
            lambda path: respell(path, lambda spec: replace(spec, lengths=None).to_json()),
            "input 'lengths' is not described",
        ),
        (
            lambda path: respell(
                path, lambda spec: replace(spec, call_shapes=(CallShape.ENCODER_DECODER,)).to_json()
            ),
            "expected the metadata of its encoder",
        ),
    ],
)
async def test_a_package_that_cannot_be_served_is_reported_and_the_others_serve(
    copy: Path, repository: Path, spoil: Callable[[Path], None], words: str
) -> None:
    shutil.copytree(copy / "last" / "1", copy / "broken" / "1")
    spoil(copy / "broken" / "1" / "model.onnx")
    async with running_server(copy) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
    assert [(model.name, model.status) for model in listed] == [
        ("broken", model_pb2.MODEL_STATUS_FAILED),
        ("last", model_pb2.MODEL_STATUS_READY),
    ]
    assert words in listed[0].failure


async def test_a_version_that_nobody_holds_leaves_memory_at_once(copy: Path) -> None:
    models = (await load(copy)).models
    loaded = models.find("last")
    held: list[weakref.ref[Any]] = [weakref.ref(loaded.scheduler), weakref.ref(loaded.arena)]
    del loaded
    shutil.rmtree(copy / "last" / "1")
    gc.disable()  # memory that only a search for cycles would free must not remain
    try:
        await models.follow()
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()


async def test_a_repository_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="is not a folder"):
        await load(tmp_path / "nowhere")


def save_elementwise(folder: Path, expression: str) -> None:
    """Writes a model of state + x -> state and y; coupled rows change each other through their sum."""
    spec = ModelSpec(
        inputs=(TensorSpec("x", "float32", (4,)),),
        outputs=(TensorSpec("y", "float32", (4,)),),
        state=(StatePair("s", "s_out", "float32", (4,)),),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    nodes = [
        helper.make_node("ReduceSum", ["x", "time"], ["total"], keepdims=0),
        helper.make_node("Add", ["s", "total"], ["s_out"]),
        helper.make_node("ReduceSum", ["x", "batch"], ["neighbours"], keepdims=1),
        helper.make_node("Add", ["x", "neighbours" if expression == "coupled" else "x"], ["y"]),
    ]
    vectors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["T", "B", 4]) for n in ("x", "y")]
    states = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", 4]) for n in ("s", "s_out")]
    axes = [
        numpy_helper.from_array(np.array([number], np.int64), name)
        for name, number in (("time", 0), ("batch", 1))
    ]
    graph = helper.make_graph(
        nodes, "sums", [vectors[0], states[0]], [vectors[1], states[1]], initializer=axes
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")


async def test_rows_that_touch_each_other_are_run_alone(tmp_path: Path) -> None:
    save_elementwise(tmp_path / "coupled" / "1", "coupled")
    save_elementwise(tmp_path / "apart" / "1", "apart")
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    async with running_server(tmp_path) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
        assert {model.name: model.exactness for model in listed} == {
            "apart": model_pb2.EXACTNESS_TOLERANCE,  # single steps add in another order
            "coupled": model_pb2.EXACTNESS_UNSAFE,
        }
        for name in ("coupled", "apart"):
            handles = await caller.open(name, f"{name} a", f"{name} b")
            reply = await caller.ask(step=caller.frame([(handle, 0) for handle in handles], x))
            assert reply.outputs["y"].data == (2 * x).tobytes()


async def test_a_package_may_ask_to_share_runs_within_rounding(tmp_path: Path) -> None:
    for name, expression in (("apart", "apart"), ("asks", "apart"), ("coupled", "coupled")):
        save_elementwise(tmp_path / name / "1", expression)
        if name != "apart":
            (tmp_path / name / "1" / "model.toml").write_text('batch = "tolerance"\n')
    models = (await load(tmp_path)).models
    assert {loaded.package.name: loaded.profile.batchable for loaded in models} == {
        "apart": False,
        "asks": True,
        "coupled": False,  # a row changes with its neighbours, so the model may never be batched
    }


async def test_a_graph_without_lengths_never_runs_rows_of_unequal_length_together(tmp_path: Path) -> None:
    save_elementwise(tmp_path / "apart" / "1", "apart")
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("apart", "a", "b")
        reply = await caller.ask(step=caller.frame([(handle, 0) for handle in handles], x, steps=[1, 5]))
        assert reply.outputs["y"].data == (2 * x).tobytes()
        rows: dict[int, bytes] = {}
        request = sequence_pb2.PredictRequest(
            model="apart", lengths=pack_uint32([1, 5]), inputs={"x": to_tensor(x)}
        )
        async for response in caller.sequences.Predict(request):
            y = from_tensor(response.outputs["y"])
            ends = np.cumsum(unpack_uint32(response.lengths))[:-1]
            for row, piece in zip(unpack_uint32(response.rows).tolist(), np.split(y, ends), strict=True):
                rows[row] = piece.tobytes()
    assert rows == {0: (2 * x[:1]).tobytes(), 1: (2 * x[1:]).tobytes()}
