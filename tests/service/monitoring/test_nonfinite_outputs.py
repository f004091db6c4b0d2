"""Counts, logs and lists what is not finite, and delivers outputs as the model gives them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect
from tests.helpers.generation import SamplingColumns, generate, generate_sessions
from tests.helpers.metrics_server import http_get

from statewise.service import Server, Settings
from statewise.v1 import admin_pb2 as ap
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import from_tensor, pack_uint32, pack_uint64, to_tensor, unpack_uint32

LOG = """
<ir_version: 8, opset_import: ["" : 17]>
logs (float[batch, 1] x, float[batch, 1] s) => (float[batch, 1] y, float[batch, 1] s_out) {
    l = Log(x)
    s_out = Add(l, s)
    y = Identity(s_out)
}
"""
STATE = '[[state]]\ninput = "s"\noutput = "s_out"\n'
GENERATES = """
[generate]
input = "x"
emitted = { name = "y", dtype = "float32", shape = [1] }
sampled = false
graph = false
"""
COUNT = 'statewise_nonfinite_rows_total{model="m",version="1"}'


def counted(metrics: str) -> float:
    _, text = http_get(metrics, "/metrics")
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(COUNT))


def serve_logs(repository: Path, toml: str = STATE, **settings: Any) -> Server:
    folder = repository / "m" / "1"
    folder.mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(LOG), folder / "model.onnx")
    (folder / "model.toml").write_text(toml)
    options: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "metrics_listen": "127.0.0.1:0",
        "load_in_child": False,
    }
    return Server(Settings(repository=repository, **options, **settings))


async def listed(caller: Caller) -> dict[str, bool]:
    """Whether each session's state is listed as not finite; asked for one by one, they say the same."""
    listing = await caller.admin.ListSessions(ap.ListSessionsRequest())
    for one in listing.sessions:
        asked = await caller.admin.GetSession(ap.GetSessionRequest(session_id=one.session_id))
        assert asked.session.nonfinite_state == one.nonfinite_state
    return {one.session_id: one.nonfinite_state for one in listing.sessions}


async def predictions(caller: Caller, x: Array, lengths: list[int]) -> dict[int, list[float]]:
    request = sp.PredictRequest(model="m", lengths=pack_uint32(lengths), inputs={"x": to_tensor(x)})
    rows: dict[int, list[float]] = {}
    async for answer in caller.sequences.Predict(request):
        assert not answer.errors
        ends = np.cumsum(unpack_uint32(answer.lengths))[:-1]
        pieces = np.split(from_tensor(answer.outputs["y"]).ravel(), ends)
        numbers = unpack_uint32(answer.rows).tolist()
        rows |= {row: piece.tolist() for row, piece in zip(numbers, pieces, strict=True)}
    return rows


@pytest.mark.parametrize("inline_s", [0.0, 10.0], ids=["in a thread", "on the event loop"])
async def test_outputs_that_are_not_finite_are_delivered_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, inline_s: float
) -> None:
    server = serve_logs(tmp_path, inline_s=inline_s)
    address = await server.start()
    try:
        async with connect(address) as caller:
            ones, zeros = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
            good, bad = await caller.open("m", "good", "bad")
            assert (await caller.step(bad, 0, ones)).tolist() == [[0]]
            assert counted(server.metrics_address) == 0
            reply = await caller.ask(step=caller.frame([(bad, 1)], zeros))
            assert from_tensor(reply.outputs["y"]).tolist() == [[-np.inf]]
            assert counted(server.metrics_address) == 1
            (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert warned.__dict__["statewise_fields"] == {"session_ids": ["bad"]}
            both = np.concatenate([ones, ones])
            reply = await caller.ask(step=caller.frame([(good, 0), (bad, 2)], both))
            assert from_tensor(reply.outputs["y"]).tolist() == [[0], [-np.inf]]
            reply = await caller.ask(step=caller.frame([(bad, 3)], np.ones((3, 1), np.float32), steps=[3]))
            assert from_tensor(reply.outputs["y"]).tolist() == [[-np.inf]] * 3
            assert counted(server.metrics_address) == 3
            x = np.array([[1], [0], [1], [1], [-1]], np.float32)
            rows = await predictions(caller, x, [1, 2, 1, 1])
            assert (rows[0], rows[1], rows[2]) == ([0], [-np.inf, -np.inf], [0])
            assert np.isnan(rows[3]).all()
            assert counted(server.metrics_address) == 5
    finally:
        await server.stop()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1  # the next one comes with the tenth row


async def test_sessions_whose_state_is_not_finite_are_listed_as_such_until_they_are_rewound(
    tmp_path: Path,
) -> None:
    server = serve_logs(tmp_path)
    try:
        async with connect(await server.start()) as caller:
            good, bad = await caller.open("m", "good", "bad")
            assert await listed(caller) == {"good": False, "bad": False}
            ones, zeros = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
            for handle, x in ((good, ones), (bad, ones), (bad, zeros)):
                await caller.ask(step=caller.frame([(handle, int(x is zeros))], x))
            assert await listed(caller) == {"good": False, "bad": True}
            rewind = sp.RewindSessionsRequest(handles=pack_uint64([bad]), positions=pack_uint64([1]))
            assert not (await caller.ask(rewind=rewind)).errors
            assert await listed(caller) == {"good": False, "bad": False}
    finally:
        await server.stop()


async def test_rows_that_come_to_numbers_that_are_not_finite_fail_and_are_counted(tmp_path: Path) -> None:
    server = serve_logs(tmp_path, STATE + GENERATES)
    try:
        async with connect(await server.start()) as caller:
            prompt = {"x": to_tensor(np.array([[np.e], [1], [1]], np.float32))}
            lengths = pack_uint32([1, 2])
            said = await generate(caller, "m", rows=2, steps=4, prompt=prompt, prompt_lengths=lengths)
            assert (len(said.values[0]), said.errors) == (4, {1: "INTERNAL"})
            assert counted(server.metrics_address) == 1
            (handle,) = await caller.open("m", "a")
            await caller.step(handle, 0, np.ones((1, 1), np.float32))
            said = await generate_sessions(caller, [(handle, 1)], 5, SamplingColumns())
            assert said.errors == {0: "INTERNAL"}
            assert counted(server.metrics_address) == 2
            assert await listed(caller) == {"a": False}  # the state is that before the generation
    finally:
        await server.stop()
