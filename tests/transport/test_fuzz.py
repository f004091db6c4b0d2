"""Sends a thousand wrong requests to every call, while a bystander steps a session."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from tests.helpers.attacks.fuzzing import METHODS, attacked, by_type
from tests.helpers.caller import Caller
from tests.helpers.models.small import SmallModels

from statewise.v1 import admin_pb2, model_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64, to_tensor

X = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
INPUTS = {"x": to_tensor(X)}
STATE = {"state": to_tensor(np.zeros((1, 16), np.float32))}


async def right_requests(caller: Caller) -> list[Message]:
    """At least one right request for each call, with sessions that are open and a snapshot that was taken."""
    opening = pb.OpenSessionsRequest(model="steps", session_ids=["a", "b"])
    opened = await caller.sequences.OpenSessions(opening)
    handles = pack_uint64([session.handle for session in opened.sessions])
    one, two, positions = handles[:8], handles, pack_uint64([0, 0])
    token = (await caller.sequences.SnapshotSessions(pb.SnapshotSessionsRequest(handles=one))).tokens[0]
    timeout = Duration(seconds=1)
    lengths = pack_uint32([1, 3])
    return [
        pb.PredictRequest(model="steps", version=1, lengths=lengths, inputs=INPUTS, timeout=timeout),
        pb.PredictRequest(model="last", lengths=lengths, inputs=INPUTS, return_labels=True),
        pb.GenerateRequest(model="steps"),
        opening,
        pb.ResumeSessionsRequest(session_ids=["a", "b"]),
        pb.RestoreSessionsRequest(tokens=[token], session_ids=["c"]),
        pb.StepRequest(handles=two, positions=positions, steps=lengths, inputs=INPUTS, timeout=timeout),
        pb.StepRequest(handles=one, positions=positions[:8], inputs={"x": to_tensor(X[:1])}),
        pb.GenerateSessionsRequest(handles=one, positions=positions[:8]),
        pb.ForkSessionsRequest(handles=one, session_ids=["d"]),
        pb.RewindSessionsRequest(handles=two, positions=positions),
        pb.SnapshotSessionsRequest(handles=two),
        pb.PredictRequest(model="steps", lengths=lengths, inputs=INPUTS, state=STATE),
        pb.OpenSessionsRequest(model="steps", session_ids=["e"], state=STATE, positions=positions[:8]),
        pb.ReadStatesRequest(handles=two),
        pb.WriteStatesRequest(handles=one, positions=positions[:8], state=STATE, new_positions=lengths),
        pb.CreateCheckpointsRequest(handles=two, names=["before", "b"], positions=positions),
        pb.ListCheckpointsRequest(handles=two),
        pb.DeleteCheckpointsRequest(handles=one, names=["before"]),
        pb.CloseSessionsRequest(handles=one),
        model_pb2.ListModelsRequest(),
        model_pb2.GetModelRequest(name="steps", version=1),
        model_pb2.LoadModelRequest(name="steps", version=1),
        model_pb2.UnloadModelRequest(name="last", version=1),
        admin_pb2.GetServerRequest(),
        admin_pb2.ListSessionsRequest(page_size=2, model="steps"),
        admin_pb2.GetSessionRequest(session_id="a"),
        admin_pb2.GetStatesRequest(model="steps", session_ids=["a", "b"]),
        admin_pb2.GetStatesRequest(model="steps", page_size=1),
        admin_pb2.CloseSessionRequest(session_id="b"),
        admin_pb2.WatchStatsRequest(interval=Duration(seconds=1)),
    ]


@pytest.mark.parametrize("method", METHODS)
async def test_wrong_requests_are_refused_and_nobody_else_notices(
    method: str, repository: Path, tmp_path: Path, small_models: SmallModels
) -> None:
    async with attacked(repository, tmp_path / "callers.toml", small_models) as server:
        requests = by_type(await right_requests(server.caller))
        await server.withstands(method, requests[METHODS[method].input_type.full_name])
