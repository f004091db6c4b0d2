"""Sends a thousand wrong requests to each call that generates, while a bystander steps a session."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from tests.helpers.attacks.fuzzing import METHODS, attacked, by_type
from tests.helpers.caller import Caller
from tests.helpers.models.small import SmallModels

from statewise.v1 import sequence_pb2 as pb
from statewise.v1.tensor_pb2 import TextRows
from statewise.wire import pack_uint32, pack_uint64, to_tensor

SAMPLING = pb.Sampling(temperature=[0.8], top_k=[3], seed=[7])
TIMEOUT = Duration(seconds=1)
CALLS = ("Predict", "Generate", "GenerateSessions", "OpenSessions", "Step", "SessionStream")


async def right_requests(caller: Caller) -> list[Message]:
    """Right requests: tokens and numbers, in the graph and from outside, after prompts and encoder inputs."""
    calls = caller.sequences
    opened = await calls.OpenSessions(pb.OpenSessionsRequest(model="letters", session_ids=["a", "b"]))
    handles = pack_uint64([session.handle for session in opened.sessions])
    tokens = {"x": to_tensor(np.array([1, 2], np.int32))}
    stepped = await calls.Step(pb.StepRequest(handles=handles, positions=pack_uint64([0, 0]), inputs=tokens))
    assert not stepped.errors
    generations = [
        pb.GenerateRequest(
            model=model,
            rows=2,
            steps=pack_uint32([5, 9]),
            sampling=SAMPLING,
            timeout=TIMEOUT,
            prompt_text=TextRows(rows=["ab", "c"]),
        )
        for model in ("letters", "letters_outside")
    ]
    states = {"state": to_tensor(np.ones((2, 44), np.float32))}
    generations.append(
        pb.GenerateRequest(
            model="letters", rows=2, state=states, state_positions=pack_uint64([0, 7]), steps=pack_uint32([3])
        )
    )
    numbers = to_tensor(np.zeros((5, 3), np.float32))
    return [
        *generations,
        pb.GenerateRequest(
            model="wave",
            rows=2,
            steps=pack_uint32([4]),
            prompt={"x": numbers},
            prompt_lengths=pack_uint32([2, 3]),
            timeout=TIMEOUT,
        ),
        pb.PredictRequest(model="speech", text=TextRows(rows=["pq", "rst"]), timeout=TIMEOUT),
        pb.PredictRequest(model="letters", text=TextRows(rows=["ab"]), timeout=TIMEOUT),
        pb.OpenSessionsRequest(model="speech", session_ids=["s"], encoder_text=TextRows(rows=["pqr"])),
        pb.GenerateSessionsRequest(
            handles=handles,
            positions=pack_uint64([1, 1]),
            steps=pack_uint32([4]),
            sampling=SAMPLING,
            timeout=TIMEOUT,
        ),
        pb.StepRequest(handles=handles, positions=pack_uint64([1, 1]), inputs=tokens, timeout=TIMEOUT),
    ]


@pytest.fixture
def models(repository: Path, generative: Path, tmp_path: Path) -> Path:
    """A repository of the bystander's model and of those that generate."""
    models = tmp_path / "repository"
    models.mkdir()
    for folder in (*repository.iterdir(), *generative.iterdir()):
        (models / folder.name).symlink_to(folder)
    return models


@pytest.mark.parametrize("call", CALLS)
async def test_wrong_requests_are_refused_and_nobody_else_notices(
    call: str, models: Path, tmp_path: Path, small_models: SmallModels
) -> None:
    method = f"/statewise.v1.SequenceService/{call}"
    async with attacked(models, tmp_path / "callers.toml", small_models) as server:
        requests = by_type(await right_requests(server.caller))
        await server.withstands(method, requests[METHODS[method].input_type.full_name])
