"""Sends requests to generate that the server refuses: reasons and messages; nothing else is disturbed."""

from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in, status_of
from tests.helpers.generation import SamplingColumns, generate, generate_sessions, sessions_request

from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.v1.tensor_pb2 import RowError, TextRows
from statewise.wire import pack_uint32, pack_uint64, to_tensor

TOKENS = {"x": to_tensor(np.array([7], np.int32))}
ONE = pack_uint32([1])


def _request(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"model": "letters", "rows": 1, "steps": pack_uint32([4]), **fields})


async def _refusal(call: AsyncIterable[object]) -> tuple[str, str]:
    """Reason and message of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        async for _ in call:
            pass
    status = status_of(failure.value)
    return info_in(status).reason, status.message


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"model": "nobody"}, "MODEL_NOT_FOUND", "no model 'nobody'"),
        ({"model": "plain"}, "WRONG_CALL", "'plain' does not generate: use Predict"),
        ({"rows": 0}, "BAD_TENSOR", "no rows"),
        ({"steps": pack_uint32([1, 2])}, "BAD_REQUEST", "steps: expected 1 or 1 numbers; got 2"),
        ({"steps": pack_uint32([0])}, "BAD_REQUEST", "at least 1 a row; got 0"),
        ({"steps": pack_uint32([1, 2, 3])}, "BAD_REQUEST", "got 3"),
        ({"steps": b"123"}, "BAD_REQUEST", "steps"),
        ({"steps": pack_uint32([2**32 - 1])}, "BYTES_LIMIT", "expected at most 1048576 time steps"),
        ({"sampling": pb.Sampling(temperature=[-1])}, "BAD_REQUEST", "sampling.temperature"),
        ({"sampling": pb.Sampling(temperature=[float("nan")])}, "BAD_REQUEST", "sampling.temperature"),
        ({"sampling": pb.Sampling(temperature=[1, 1])}, "BAD_REQUEST", "none, 1 or 1 numbers; got 2"),
        ({"sampling": pb.Sampling(top_k=[0])}, "BAD_REQUEST", "sampling.top_k: expected at least 1"),
        ({"sampling": pb.Sampling(seed=[1, 2])}, "BAD_REQUEST", "sampling.seed"),
        ({"prompt_text": TextRows(rows=["a", "b"])}, "BAD_REQUEST", "expected 1 texts; got 2"),
        ({"prompt_text": TextRows(rows=["a"]), "prompt": TOKENS}, "BAD_REQUEST", "got both"),
        ({"condition_text": TextRows(rows=["x", "y"])}, "BAD_REQUEST", "expected 1 or 1 conditions; got 2"),
        ({"condition": TOKENS, "condition_lengths": ONE}, "BAD_REQUEST", "condition_lengths"),
        ({"condition": TOKENS, "condition_text": TextRows(rows=["x"])}, "BAD_REQUEST", "got both"),
        ({"condition": {"y": TOKENS["x"]}}, "BAD_TENSOR", "no input 'y'"),
        ({"prompt": TOKENS, "prompt_lengths": pack_uint32([2])}, "BAD_TENSOR", "expected shape [2]"),
        ({"prompt": TOKENS, "prompt_lengths": pack_uint32([1, 1])}, "BAD_REQUEST", "expected 1 lengths"),
        ({"model": "wave", "prompt_text": TextRows(rows=["a"])}, "WRONG_CALL", "no vocabulary"),
        ({"model": "wave", "condition_text": TextRows(rows=["x"])}, "WRONG_CALL", "no vocabulary"),
        ({"model": "speech"}, "BAD_TENSOR", "encoder's input is missing: expected 'x' as the condition"),
        ({"model": "speech", "condition": TOKENS}, "BAD_TENSOR", "expected shape [1, time steps, ...]"),
    ],
)
async def test_requests_that_cannot_be(
    caller: Caller, fields: dict[str, Any], reason: str, words: str
) -> None:
    found, message = await _refusal(caller.sequences.Generate(_request(**fields)))
    assert (found, words in message) == (reason, True), message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"condition": {"x": to_tensor(np.array([7, 9, 8], np.int32))}}, "tokens from 0 to 8"),
        ({"condition_text": TextRows(rows=["x", "z", "y"])}, "has '<x>', '<y>'; got 'z'"),
        ({"prompt_text": TextRows(rows=["ab", "a-b", ""])}, "expected symbols of a b c d e f; got '-'"),
    ],
)
async def test_a_bad_row_fails_alone(caller: Caller, fields: dict[str, Any], words: str) -> None:
    errors: list[RowError] = []
    async for piece in caller.sequences.Generate(_request(rows=3, **fields)):
        errors += piece.errors
    assert [(error.row, error.reason) for error in errors] == [(1, "BAD_TENSOR")]
    assert words in errors[0].message


@pytest.mark.parametrize(
    ("request_", "reason", "words"),
    [
        (pb.PredictRequest(model="wave", text=TextRows(rows=["a"])), "WRONG_CALL", "no vocabulary"),
        (pb.PredictRequest(model="speech"), "BAD_TENSOR", "no rows"),
        (pb.PredictRequest(model="speech", lengths=ONE), "BAD_TENSOR", "input 'x' is missing"),
    ],
)
async def test_predictions_that_cannot_be(
    caller: Caller, request_: pb.PredictRequest, reason: str, words: str
) -> None:
    found, message = await _refusal(caller.sequences.Predict(request_))
    assert (found, words in message) == (reason, True), message


@pytest.mark.parametrize(
    ("model", "fields", "reason", "words"),
    [
        ("speech", {}, "BAD_TENSOR", "the encoder's input is missing"),
        ("letters", {"encoder_text": TextRows(rows=["a"])}, "WRONG_CALL", "has no encoder"),
        ("speech", {"encoder_text": TextRows(rows=["p", "q"])}, "BAD_REQUEST", "expected 1 texts; got 2"),
    ],
)
async def test_openings_that_cannot_be(
    caller: Caller, model: str, fields: dict[str, Any], reason: str, words: str
) -> None:
    error = await caller.ask(open=pb.OpenSessionsRequest(model=model, session_ids=["a"], **fields))
    assert (info_in(error).reason, words in error.message) == (reason, True), error.message


async def test_sessions_that_cannot_generate(caller: Caller) -> None:
    (plain,) = await caller.open("plain", "p")
    error = await caller.ask(generate=sessions_request([(plain, 0)], 3, SamplingColumns()))
    assert "does not generate" in error.message
    (letters,) = await caller.open("letters", "l")
    for request, words in (
        (sessions_request([], 3, SamplingColumns()), "no rows"),
        (sessions_request([(letters, 0)], [3, 3], SamplingColumns()), "steps: expected"),
        (sessions_request([(letters, 0)] * 2, 3, SamplingColumns()), "a handle stands twice"),
        (sessions_request([(letters, 0), (plain, 0)], 3, SamplingColumns()), "different models"),
        (
            pb.GenerateSessionsRequest(handles=pack_uint64([letters]), steps=ONE),
            "expected columns of equal length",
        ),
    ):
        assert words in (await caller.ask(generate=request)).message
    said = await generate_sessions(caller, [(12345, 0)], 3, SamplingColumns())
    assert said.errors == {0: "SESSION_NOT_FOUND"}
    # Nothing of all this has touched the session.
    said = await generate_sessions(caller, [(letters, 0)], 3, SamplingColumns())
    assert said.errors == {}


async def test_a_step_whose_outputs_are_longer_than_a_message_does_not_run(generative: Path) -> None:
    # A time step of `letters` has 4 bytes of input and 28 of output.
    async with running_server(generative, message_bytes=65_536) as address, connect(address) as caller:
        (handle,) = await caller.open("letters", "a")
        tokens = np.ones(3_000, np.int32)
        error = await caller.ask(step=caller.frame([(handle, 0)], tokens, steps=[3_000]))
        assert info_in(error).reason == "BYTES_LIMIT"
        assert "outputs of the request take 84000 bytes" in error.message
        reply = await caller.ask(step=caller.frame([(handle, 0)], tokens[:2_000], steps=[2_000]))
        assert list(reply.outputs["y"].shape) == [2_000, 7]


async def test_a_full_queue_is_told_before_anything_runs(generative: Path) -> None:
    async with running_server(generative, queue_steps=50) as address, connect(address) as caller:
        reason, message = await _refusal(caller.sequences.Generate(_request(steps=pack_uint32([51]))))
        assert (reason, "try again in" in message) == ("QUEUE_FULL", True)
        (handle,) = await caller.open("letters", "a")
        error = await caller.ask(generate=sessions_request([(handle, 0)], 51, SamplingColumns()))
        assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        said = await generate_sessions(caller, [(handle, 0)], 50, SamplingColumns())
        assert said.errors == {}
        # The queue counts neither the refused steps nor those that have run.
        said = await generate(caller, "letters", rows=1, steps=49)
        assert said.errors == {}
