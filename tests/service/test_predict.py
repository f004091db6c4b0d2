"""Predicts whole sequences: ragged batches, results in several messages, rows that fail alone, limits."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels

from statewise.service.testing import running_server
from statewise.v1 import model_pb2, sequence_pb2
from statewise.wire import from_tensor, pack_uint32, to_tensor, unpack_uint32


def _request(model: str, sequences: list[Array], **fields: Any) -> sequence_pb2.PredictRequest:
    return sequence_pb2.PredictRequest(
        model=model,
        lengths=pack_uint32([len(one) for one in sequences]),
        inputs={"x": to_tensor(np.concatenate(sequences))},
        **fields,
    )


async def _predict(
    caller: Caller, request: sequence_pb2.PredictRequest
) -> tuple[dict[int, Array], dict[int, str], int]:
    """Outputs by row, reasons of failed rows, and the number of messages."""
    rows: dict[int, Array] = {}
    failures: dict[int, str] = {}
    messages = 0
    async for response in caller.sequences.Predict(request):
        messages += 1
        failures.update((error.row, error.reason) for error in response.errors)
        numbers = unpack_uint32(response.rows).tolist()
        if not numbers:
            continue
        y = from_tensor(response.outputs["y"])
        lengths = unpack_uint32(response.lengths)
        per_step = len(y) == lengths.sum() and request.model != "last"
        pieces = np.split(y, np.cumsum(lengths)[:-1]) if per_step else list(y)
        for number, piece in zip(numbers, pieces, strict=True):
            assert number not in rows
            rows[number] = piece
    return rows, failures, messages


@pytest.mark.parametrize("model", ["steps", "last", "both"])
async def test_a_ragged_batch_gives_what_each_sequence_gives_alone(
    caller: Caller, small_models: SmallModels, random: np.random.Generator, model: str
) -> None:
    sequences = [
        random.standard_normal((steps, 3)).astype(np.float32) for steps in random.integers(1, 60, 300)
    ]
    rows, failures, _ = await _predict(caller, _request(model, sequences))
    assert failures == {}
    assert sorted(rows) == list(range(300))
    oracle = small_models.find(model)
    for number in (0, 1, 17, 150, 299):
        assert rows[number].tobytes() == oracle.run(sequences[number])[0].tobytes()


async def test_results_larger_than_a_message_come_in_several(
    repository: Path, random: np.random.Generator
) -> None:
    sequences = [random.standard_normal((2_000, 3)).astype(np.float32) for _ in range(2)] + [
        random.standard_normal((5, 3)).astype(np.float32)
    ]
    async with (
        running_server(repository, message_bytes=65_536) as address,
        connect(address, max_receive_message_length=65_536) as caller,
    ):
        rows, _, messages = await _predict(caller, _request("steps", sequences))
    assert sorted(len(y) for y in rows.values()) == [5, 2_000, 2_000]
    assert messages > 1


async def test_labels_on_request(caller: Caller, random: np.random.Generator) -> None:
    sequences = [random.standard_normal((steps, 3)).astype(np.float32) for steps in (4, 9, 2, 7)]
    named: dict[int, str] = {}
    outputs: dict[int, Array] = {}
    async for response in caller.sequences.Predict(_request("last", sequences, return_labels=True)):
        rows = unpack_uint32(response.rows).tolist()
        named.update(zip(rows, response.labels, strict=True))
        outputs.update(zip(rows, from_tensor(response.outputs["y"]), strict=True))
    assert named == {row: ("left", "right")[int(y.argmax())] for row, y in outputs.items()}
    assert len(named) == 4
    with pytest.raises(grpc.aio.AioRpcError, match="'steps' declares no classes"):
        await caller.sequences.Predict(_request("steps", sequences, return_labels=True)).read()


async def test_a_bad_sequence_fails_alone(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    sequences = [random.standard_normal((steps, 3)).astype(np.float32) for steps in (4, 6, 5)]
    sequences[1][5, 0] = np.nan
    sequences.insert(2, np.zeros((0, 3), np.float32))
    rows, failures, _ = await _predict(caller, _request("steps", sequences))
    assert failures == {1: "BAD_TENSOR", 2: "BAD_TENSOR"}
    oracle = small_models.find("steps")
    assert {number: y.tobytes() for number, y in rows.items()} == {
        number: oracle.run(sequences[number])[0].tobytes() for number in (0, 3)
    }


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (sequence_pb2.PredictRequest(model="nobody"), "NOT_FOUND", "served are: both, last, steps"),
        (sequence_pb2.PredictRequest(model="steps", version=9), "NOT_FOUND", "served are: 1, 2"),
        (sequence_pb2.PredictRequest(model="steps"), "INVALID_ARGUMENT", "no rows"),
        (
            sequence_pb2.PredictRequest(
                model="steps",
                lengths=pack_uint32([2]),
                inputs={"x": to_tensor(np.zeros((2, 4), np.float32))},
            ),
            "INVALID_ARGUMENT",
            "expected shape [2, 3]",
        ),
    ],
    ids=["model", "version", "empty batch", "size"],
)
async def test_requests_that_are_refused(
    caller: Caller, request_: sequence_pb2.PredictRequest, code: str, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await _predict(caller, request_)
    assert failure.value.code().name == code
    assert words in (failure.value.details() or "")


async def test_versions_answer_by_their_number_and_the_highest_by_default(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    for version, expected in ((1, 1), (2, 2), (0, 2)):
        rows, _, _ = await _predict(caller, _request("steps", [x], version=version))
        assert rows[0].tobytes() == small_models.find("steps", expected).run(x)[0].tobytes()


async def test_more_than_the_queue_holds_is_refused_with_a_delay(
    repository: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((101, 3)).astype(np.float32)
    async with (
        running_server(repository, queue_steps=100) as address,
        connect(address) as caller,
    ):
        call = caller.sequences.Predict(_request("steps", [x]))
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call.read()
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = dict(failure.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert b"QUEUE_FULL" in details
    assert b"RetryInfo" in details


async def test_the_longest_sequence_is_announced_and_the_next_longer_one_refused(repository: Path) -> None:
    async with running_server(repository, request_steps=50) as address, connect(address) as caller:
        model = (await caller.models.GetModel(model_pb2.GetModelRequest(name="steps"))).model
        assert model.max_steps == 50
        longest = np.zeros((model.max_steps, 3), np.float32)
        rows, failures, _ = await _predict(caller, _request("steps", [longest]))
        assert (len(rows), failures) == (1, {})
        with pytest.raises(grpc.aio.AioRpcError, match="at most 50 time steps a request; got 51"):
            await _predict(caller, _request("steps", [np.zeros((51, 3), np.float32)]))


async def test_one_to_one_models_announce_one_step_and_versions_not_loaded_none(untrained: Path) -> None:
    async with running_server(untrained) as address, connect(address) as caller:
        await caller.models.UnloadModel(model_pb2.UnloadModelRequest(name="gait"))
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
    longest = {model.name: model.max_steps for model in listed}
    assert longest == {"vowels": 1_048_576, "tumour": 1, "gait": 0, "names": 1_048_576, "g2p": 1_048_576}


async def test_the_queue_has_room_again_when_work_is_done(
    repository: Path, random: np.random.Generator
) -> None:
    x = random.standard_normal((60, 3)).astype(np.float32)
    async with running_server(repository, queue_steps=100) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        for turn in range(4):
            rows, failures, _ = await _predict(caller, _request("steps", [x]))
            assert (len(rows), failures) == (1, {})
            await caller.step(handle, 60 * turn, x)


async def test_a_caller_who_leaves_holds_nobody_up(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    long = [random.standard_normal((20_000, 3)).astype(np.float32) for _ in range(8)]
    abandoned = caller.sequences.Predict(_request("steps", long))
    x = random.standard_normal((3, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    abandoned.cancel()
    y = [await caller.step(handle, t, x[t]) for t in range(3)]
    assert np.concatenate(y).tobytes() == small_models.find("steps").run(x)[0].tobytes()
    with pytest.raises(asyncio.CancelledError):
        await abandoned.read()


async def test_states_count_among_the_bytes_of_a_prediction(
    repository: Path, random: np.random.Generator
) -> None:
    rows = 500
    request = _request("steps", [random.standard_normal((1, 3)).astype(np.float32) for _ in range(rows)])
    async with running_server(repository) as address, connect(address) as caller:
        response = await caller.models.GetModel(model_pb2.GetModelRequest(name="steps"))
        model = response.model
        outputs = sum(4 * int(np.prod(entry.shape)) for entry in model.outputs)
        expected = rows * (3 * 4 + outputs + model.state_bytes)
        assert model.state_bytes
    async with running_server(repository, prediction_bytes=expected) as address, connect(address) as caller:
        found, failures, _ = await _predict(caller, request)
        assert (len(found), failures) == (rows, {})
    async with (
        running_server(repository, prediction_bytes=expected - 1) as address,
        connect(address) as caller,
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=f"take {expected} bytes"):
            await _predict(caller, request)
