"""Reads the log of a server process: its two formats, slow requests, and that it holds no secrets."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.caller import connect

from statewise.service import Settings
from statewise.service.session_state import SessionTable
from statewise.service.telemetry import SlowRequests
from statewise.service.telemetry._logs import ConsoleFormatter, JsonFormatter, fields
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2
from statewise.wire import (
    METADATA_KEY,
    CallShape,
    ModelSpec,
    StatePair,
    TensorSpec,
    from_tensor,
    pack_uint32,
    to_tensor,
)

SERVE = """
import sys
from statewise.service import Settings, serve
serve(Settings(listen="127.0.0.1:0"), ready=sys.stdout)
"""


def record(**extra: Any) -> logging.LogRecord:
    logger = logging.getLogger("statewise.somewhere")
    return logger.makeRecord(
        logger.name, logging.WARNING, "here.py", 1, "slow: %g s", (2.5,), None, extra=extra.get("extra")
    )


def test_json_is_one_object_with_the_fields() -> None:
    line = JsonFormatter().format(record(extra=fields(request_id=7, session_ids=["a\nb"], model=None)))
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning",
        "logger": "statewise.somewhere",
        "message": "slow: 2.5 s",
        "request_id": 7,
        "session_ids": ["a\nb"],
    }


def test_json_holds_a_traceback_in_the_same_line() -> None:
    failing = record()
    try:
        raise ValueError("odd")
    except ValueError:
        failing.exc_info = sys.exc_info()
    line = JsonFormatter().format(failing)
    assert "\n" not in line
    assert "ValueError: odd" in json.loads(line)["exception"]


def test_the_console_has_the_fields_behind_the_message() -> None:
    line = ConsoleFormatter().format(record(extra=fields(request_id=7, session_ids=["a\nb"])))
    assert line.endswith('WARNING slow: 2.5 s request_id=7 session_ids=["a\\nb"]')
    assert ConsoleFormatter().format(record()).endswith("WARNING slow: 2.5 s")


@asynccontextmanager
async def serving(repository: Path, **settings: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server process with these settings in its environment; gives its address too."""
    environment = {f"STATEWISE_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVE,
        env={**environment, "STATEWISE_REPOSITORY": str(repository)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    try:
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_server_logs_json_with_ids_and_without_secrets(repository: Path) -> None:
    key = "correct horse battery staple"
    settings = {"log_format": "json", "log_level": "debug", "slow_request_s": "1e-6", "snapshot_key": key}
    async with serving(repository, **settings) as (process, address), connect(address) as caller:
        (handle,) = await caller.open("steps", "ankle")
        number = await caller.send(step=caller.frame([(handle, 0)], np.full((1, 3), 0.625, np.float32)))
        await caller.receive()
        request = sequence_pb2.PredictRequest(
            model="steps", lengths=pack_uint32([2]), inputs={"x": to_tensor(np.zeros((2, 3), np.float32))}
        )
        assert [part async for part in caller.sequences.Predict(request)]
        process.send_signal(signal.SIGTERM)
        caller.stream.cancel()
        _, said = await process.communicate()
    lines = [json.loads(line) for line in said.decode().splitlines()]
    assert process.returncode == 0
    assert any(line["message"].startswith("steps/2 serves: exact") for line in lines)
    slow = {line["operation"]: line for line in lines if line["message"].startswith("slow request")}
    step, predict = slow["step"], slow["predict"]
    assert all(float(line["message"].split()[-2]) > 0 for line in slow.values())
    assert (step["request_id"], step["session_ids"]) == (number, ["ankle"])
    assert (step["model"], step["version"], step["rows"], step["steps"]) == ("steps", 2, 1, 1)
    assert 0 <= step["queue_s"] <= step["latency_s"]
    assert (predict["rows"], predict["steps"]) == (1, 2)
    assert 0 < predict["queue_s"] <= predict["latency_s"]
    assert key not in said.decode()
    assert "0.625" not in said.decode()


async def test_the_level_is_that_of_the_settings(repository: Path) -> None:
    async with serving(repository, log_level="warning") as (process, _):
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
    assert said == b""


def test_slow_requests_are_told_up_to_so_many_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 5.0
    table = SessionTable(1, clock=lambda: now_s)
    slow = SlowRequests(0.1, table, model_of=lambda _: ("m", 1), clock=lambda: now_s)
    for _ in range(25):
        slow.log("predict", 0.25, queue_s=None, model=("m", 1))
    assert len(caplog.records) == 10
    now_s = 6.5
    slow.log("predict", 0.25, queue_s=None, model=("m", 1))
    assert "others_not_told=15" in ConsoleFormatter().format(caplog.records[-1])


def test_no_request_is_slow_unless_that_is_asked_for(repository: Path) -> None:
    assert Settings(repository=repository).slow_request_s == 0
    table = SessionTable(1, clock=lambda: 0.0)
    assert SlowRequests(0.0, table, model_of=lambda _: ("m", 1), clock=lambda: 0.0).limit_s > 1e300


def write_brittle_model(root: Path) -> None:
    """Writes a model that adds up its inputs, and fails if one is 10 or more."""
    spec = ModelSpec(
        inputs=(TensorSpec("x", "float32", (3,)),),
        outputs=(TensorSpec("y", "float32", (3,), per_step=True),),
        state=(StatePair("state", "state_out", "float32", (3,)),),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("Cast", ["size"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zeros", "place"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
        helper.make_node("ReduceSum", ["y", "first"], ["sum"], keepdims=0),
        helper.make_node("Add", ["state", "sum"], ["state_out"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "brittle",
        [value("x", TensorProto.FLOAT, ["T", "B", 3]), value("state", TensorProto.FLOAT, ["B", 3])],
        [value("y", TensorProto.FLOAT, ["T", "B", 3]), value("state_out", TensorProto.FLOAT, ["B", 3])],
        initializer=[
            numpy_helper.from_array(np.zeros(10, np.float32), "zeros"),
            numpy_helper.from_array(np.array([0], np.int64), "first"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    folder = root / "brittle" / "1"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")


async def test_a_row_that_the_model_fails_on_is_logged_by_its_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_brittle_model(tmp_path)
    async with running_server(tmp_path) as address, connect(address) as caller:
        good, bad = await caller.open("brittle", "good", "bad")
        x = np.array([[1, 2, 3], [1, 99, 3]], np.float32)
        reply = await caller.ask(step=caller.frame([(good, 0), (bad, 0)], x))
    assert [(error.row, error.reason) for error in reply.errors] == [(1, "INTERNAL")]
    assert from_tensor(reply.outputs["y"]).tolist() == [[1, 2, 3]]
    (told,) = (one for one in caplog.records if "failed on rows of sessions" in one.message)
    assert 'session_ids=["bad"]' in ConsoleFormatter().format(told)
