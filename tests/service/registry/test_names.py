"""Asks for models by hostile names: none leads out of the repository."""

import grpc
import pytest
from tests.helpers.caller import Caller

from statewise.v1 import model_pb2
from statewise.v1 import sequence_pb2 as pb


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../steps",
        "steps/../steps",
        "/etc",
        "steps/1",
        "steps\0",
        "..\\..",
        "%2e%2e",
        "x" * 50_000,
    ],
)
async def test_names_lead_nowhere_but_into_the_repository(caller: Caller, name: str) -> None:
    for ask in (
        lambda: caller.models.LoadModel(model_pb2.LoadModelRequest(name=name)),
        lambda: caller.models.UnloadModel(model_pb2.UnloadModelRequest(name=name)),
        lambda: caller.models.GetModel(model_pb2.GetModelRequest(name=name)),
        lambda: caller.models.LoadModel(model_pb2.LoadModelRequest(name="steps", version=2**32 - 1)),
        lambda: caller.sequences.OpenSessions(pb.OpenSessionsRequest(model=name, session_ids=["a"])),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask()
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
