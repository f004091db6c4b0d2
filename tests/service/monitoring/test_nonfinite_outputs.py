"""Counts and logs outputs that are not finite, and delivers them as the model gives them."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect
from tests.helpers.metrics_server import http_get

from statewise.service import Server, Settings
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import from_tensor, pack_uint32, to_tensor, unpack_uint32

LOG = """
<ir_version: 8, opset_import: ["" : 17]>
logs (float[batch, 1] x, float[batch, 1] s) => (float[batch, 1] y, float[batch, 1] s_out) {
    l = Log(x)
    s_out = Add(l, s)
    y = Identity(s_out)
}
"""
COUNT = 'statewise_nonfinite_rows_total{model="m",version="1"}'


def counted(metrics: str) -> float:
    _, text = http_get(metrics, "/metrics")
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(COUNT))


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
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(LOG), folder / "model.onnx")
    (folder / "model.toml").write_text('[[state]]\ninput = "s"\noutput = "s_out"\n')
    server = Server(
        Settings(
            repository=tmp_path,
            listen="127.0.0.1:0",
            metrics_listen="127.0.0.1:0",
            load_in_child=False,
            inline_s=inline_s,
        )
    )
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
