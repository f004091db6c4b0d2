"""Loads graphs that crash, hang or eat memory: the server goes on, and says what is wrong with them."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.caller import Caller, connect, read_answer
from tests.helpers.models.generative import write_generative_models

from statewise.service import Server, Settings
from statewise.service.testing import running_server
from statewise.v1 import model_pb2 as mp
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import from_tensor, pack_uint32, to_tensor

SUM = """
<ir_version: 8, opset_import: ["" : 17]>
sum (float[batch, 3] x, float[batch, 3] s) => (float[batch, 3] y, float[batch, 3] s_out) {
    s_out = Add(x, s)
    y = Neg(s_out)
}
"""
# An LSTM of no rows: onnxruntime ends the process, at every level of optimisation.
ABORTS = """
<ir_version: 8, opset_import: ["" : 17]>
aborts (float[batch, 3] x, float[batch, 3] s) => (float[batch, 3] y, float[batch, 3] s_out) {
    s_out = Add(x, s)
    zero = Constant<value = int64[1] {0}>()
    one = Constant<value = int64[1] {1}>()
    steps = Unsqueeze(x, zero)
    none = Slice(steps, zero, zero, one)
    shape_w = Constant<value = int64[3] {1, 4, 3}>()
    shape_r = Constant<value = int64[3] {1, 4, 1}>()
    W = ConstantOfShape(shape_w)
    R = ConstantOfShape(shape_r)
    Y, h, c = LSTM<hidden_size = 1>(none, W, R)
    total = ReduceSum<keepdims = 0>(h)
    y = Add(s_out, total)
}
"""
HANGS = """
<ir_version: 8, opset_import: ["" : 17]>
hangs (float[batch, 3] x, float[batch, 3] s) => (float[batch, 3] y, float[batch, 3] s_out) {
    s_out = Add(x, s)
    times = Constant<value = int64 {4611686018427387904}>()
    yes = Constant<value = bool {1}>()
    y = Loop(times, yes, s_out) <
        body = again (int64 number, bool goes, float[batch, 3] before) => (bool on, float[batch, 3] after) {
            on = Identity(goes)
            after = Neg(before)
        }
    >
}
"""
EATS = """
<ir_version: 8, opset_import: ["" : 17]>
eats (float[batch, 3] x, float[batch, 3] s) => (float[batch, 3] y, float[batch, 3] s_out) {
    s_out = Add(x, s)
    size = Constant<value = int64[1] {1000000000}>()
    zero = Constant<value = int64[1] {0}>()
    first = Slice(x, zero, zero)
    none = ReduceSum<keepdims = 0>(first)
    seven = Expand(none, size)
    total = ReduceSum<keepdims = 0>(seven)
    y = Add(s_out, total)
}
"""


def publish(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    (folder / "model.toml").write_text('[[state]]\ninput = "s"\noutput = "s_out"\n')


def publish_half(folder: Path) -> None:
    """A float16 Transpose and MatMul, which onnxruntime 1.32 cannot optimise fully without a crash."""
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
            helper.make_node("MatMul", ["a", "w"], ["y"]),
        ],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["b", "t", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["t", "b", 3])],
        [numpy_helper.from_array(np.full((5, 3), 0.25, np.float16), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.toml").write_text(
        '[[inputs]]\nname = "x"\naxes = ["batch", "time", 5]\n'
        '[[outputs]]\nname = "y"\naxes = ["time", "batch", 3]\n'
    )


async def models(caller: Caller) -> dict[str, mp.Model]:
    listed = (await caller.models.ListModels(mp.ListModelsRequest())).models
    return {model.name: model for model in listed}


@asynccontextmanager
async def loading_in_a_child(repository: Path, **settings: Any) -> AsyncIterator[Caller]:
    async with (
        running_server(repository, load_in_child=True, **settings) as address,
        connect(address) as caller,
    ):
        yield caller


async def test_what_a_child_measured_serves_like_what_was_measured_here(tmp_path: Path) -> None:
    """Every kind of graph: read graph, generator, encoder, and models that are fed back from outside."""
    write_generative_models(tmp_path)
    async with running_server(tmp_path) as address, connect(address) as caller:
        here = await models(caller)
    async with loading_in_a_child(tmp_path) as caller:
        assert await models(caller) == here
    assert {model.status for model in here.values()} == {mp.MODEL_STATUS_READY}


async def test_a_graph_that_crashes_at_full_optimisation_serves_at_a_lower_level(
    tmp_path: Path, random: np.random.Generator
) -> None:
    publish_half(tmp_path / "half" / "1")
    x = random.standard_normal((4, 5)).astype(np.float16)
    async with loading_in_a_child(tmp_path) as caller:
        request = sp.PredictRequest(model="half", lengths=pack_uint32([4]), inputs={"x": to_tensor(x)})
        answer = await read_answer(caller.sequences.Predict(request))
    y = from_tensor(answer.outputs["y"])
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, np.repeat(x.sum(1, keepdims=True) / 4, 3, 1), atol=2e-3)


async def test_a_graph_that_ends_its_process_is_a_failed_version_and_sessions_go_on(tmp_path: Path) -> None:
    publish(tmp_path / "sum" / "1", SUM)
    async with loading_in_a_child(tmp_path, repository_poll_s=0) as caller:
        (handle,) = await caller.open("sum", "a")
        await caller.step(handle, 0, np.ones((1, 3), np.float32))
        publish(tmp_path / "aborts" / "1", ABORTS)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.models.LoadModel(mp.LoadModelRequest(name="aborts"))
        failure = (await models(caller))["aborts"].failure
        y = await caller.step(handle, 1, np.ones((1, 3), np.float32))
    assert refused.value.details() == failure
    assert failure == (
        "aborts/1: loading and testing its graphs in a process of its own ended by SIGABRT, "
        "at every level of optimisation"
    )
    assert y.tolist() == [[-2, -2, -2]]


@pytest.mark.long
async def test_a_graph_without_end_fails_in_time_and_holds_up_no_other(tmp_path: Path) -> None:
    publish(tmp_path / "hangs" / "1", HANGS)
    publish(tmp_path / "sum" / "1", SUM)
    begun_s = time.monotonic()
    # The other model has to load within this time on a busy machine too.
    async with loading_in_a_child(tmp_path, load_s=30) as caller:
        found = await models(caller)
    assert found["sum"].status == mp.MODEL_STATUS_READY
    assert found["hangs"].failure == (
        "hangs/1: loading and testing its graphs in a process of its own took longer than 30 s (load_s)"
    )
    assert time.monotonic() - begun_s >= 30


async def test_a_graph_that_wants_too_much_memory_fails(tmp_path: Path) -> None:
    publish(tmp_path / "eats" / "1", EATS)
    publish(tmp_path / "sum" / "1", SUM)
    async with loading_in_a_child(tmp_path, load_bytes=2**29, load_versions=1) as caller:
        found = await models(caller)
    assert found["eats"].status == mp.MODEL_STATUS_FAILED
    assert found["sum"].status == mp.MODEL_STATUS_READY


async def test_a_server_that_stops_ends_its_children(tmp_path: Path) -> None:
    publish(tmp_path / "hangs" / "1", HANGS)
    """If it waited for them, this test would be ended before `load_s` is over."""
    server = Server(Settings(repository=tmp_path, listen="127.0.0.1:0", startup_s=0.1, load_s=10_000))
    await server.start()
    await server.stop()


async def test_a_server_that_still_starts_ends_when_it_is_told_to(tmp_path: Path) -> None:
    publish(tmp_path / "models" / "hangs" / "1", HANGS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["-m", "statewise", "serve", "--repository", str(tmp_path / "models"), "--listen", address]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with connect(address, max_reconnect_backoff_ms=500) as caller:
            await caller.channel.channel_ready()
        process.terminate()
        out, log = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in log


@pytest.mark.parametrize("in_child", [True, False])
async def test_a_failure_does_not_tell_where_files_lie(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, in_child: bool
) -> None:
    """Nor does it give onnxruntime's words, which are in the log."""
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"no graph")
    (tmp_path / "folder" / "1" / "model.toml").mkdir(parents=True)
    publish(tmp_path / "sum" / "1", SUM)
    (tmp_path / "folder" / "1" / "model.onnx").write_bytes((tmp_path / "sum/1/model.onnx").read_bytes())
    async with running_server(tmp_path, load_in_child=in_child) as address, connect(address) as caller:
        found = await models(caller)
    failures = [found[name].failure for name in ("broken", "folder")]
    assert (
        failures[0] == "broken/1/model.onnx: onnxruntime cannot load it: it is no ONNX file, or a damaged one"
    )
    assert "Protobuf parsing failed" in caplog.text
    assert failures[1].startswith("folder/1/model.toml: ")
    assert not any("/" in failure.replace("/1/model.", "") for failure in failures), failures
