"""A thousand wrong requests for every call: each is refused in words or served, and nobody else notices.

A fault of the server (INTERNAL, UNKNOWN) is a failure here: it would be a wrong request that the server did
not see coming.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from statewise.service import Scope, add_token
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, model_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64, to_tensor

from .mutation import changed, damaged

REQUESTS = 1_000
BATCH = 50
MOST_RESPONSES = 3  # of one call: some never end
X = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
INPUTS = {"x": to_tensor(X)}
FAULTS = {grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.UNKNOWN.value[0]}

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (pb, model_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True)
class Attacked:
    """A server, and what the attacker has of it.

    Attributes:
        address: The server's.
        caller: The attacker.
        bystander: Somebody else, with a session.
        requests: Right requests to begin from, by their type.
    """

    address: str
    caller: Any
    bystander: Any
    requests: dict[str, Sequence[Message]]


@pytest.fixture
async def attacked(repository: Path, tmp_path: Path, connect: Any, beside: Any) -> AsyncIterator[Attacked]:
    path = tmp_path / "callers.toml"
    theirs, own = (add_token(path, owner, list(Scope)) for owner in ("ann", "mallory"))
    async with (
        running_server(
            repository, callers=path, sessions=2_000, snapshot_key="k", repository_poll_s=0
        ) as address,
        beside(address, token=theirs) as bystander,
        connect(address, token=own) as caller,
    ):
        yield Attacked(address, caller, bystander, await right_requests(caller))


async def right_requests(caller: Any) -> dict[str, Sequence[Message]]:
    """What each call takes, by the name of its type; sessions are open, and a snapshot is taken."""
    opening = pb.OpenSessionsRequest(model="steps", session_ids=["a", "b"])
    opened = await caller.sequences.OpenSessions(opening)
    handles = pack_uint64([session.handle for session in opened.sessions])
    one, two, positions = handles[:8], handles, pack_uint64([0, 0])
    token = (await caller.sequences.SnapshotSessions(pb.SnapshotSessionsRequest(handles=one))).tokens[0]
    timeout = {"seconds": 1}
    lengths = pack_uint32([1, 3])
    requests = [
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
        pb.CloseSessionsRequest(handles=one),
        model_pb2.ListModelsRequest(),
        model_pb2.GetModelRequest(name="steps", version=1),
        model_pb2.LoadModelRequest(name="steps", version=1),
        model_pb2.UnloadModelRequest(name="last", version=1),
        admin_pb2.GetServerRequest(),
        admin_pb2.ListSessionsRequest(page_size=2, model="steps"),
        admin_pb2.GetSessionRequest(session_id="a"),
        admin_pb2.CloseSessionRequest(session_id="b"),
        admin_pb2.WatchStatsRequest(interval={"seconds": 1}),
    ]
    by_type: dict[str, list[Message]] = {}
    for request in requests:
        by_type.setdefault(request.DESCRIPTOR.full_name, []).append(request)
    operations = {
        field.message_type.full_name: field.name
        for field in pb.SessionStreamRequest.DESCRIPTOR.oneofs_by_name["operation"].fields
    }
    by_type["statewise.v1.SessionStreamRequest"] = [
        pb.SessionStreamRequest(request_id=7, **{operations[kind]: request})
        for kind, of_kind in by_type.items()
        if kind in operations
        for request in of_kind
    ]
    return by_type


def wrong_requests(right: Sequence[Message], random: Random) -> Iterator[bytes]:
    """Half of them decode."""
    for number in range(REQUESTS):
        yield (changed if number % 2 else damaged)(random.choice(right), random)


async def ask(caller: Any, method: str, request: bytes) -> int:
    """Sends bytes as they are; gives the code of the call, or the worst of what was answered."""
    kind = METHODS[method]
    try:
        if kind.client_streaming:
            stream = caller.channel.stream_stream(method)()
            await stream.write(request)
            await stream.done_writing()
            worst = 0
            while isinstance(answer := await stream.read(), bytes):
                told = pb.SessionStreamResponse.FromString(answer)
                worst = max(worst, fault_in(answer), told.error.code)
            return worst
        call = caller.channel.unary_stream(method)(request)
        responses = worst = 0
        async for answer in call:
            worst = max(worst, fault_in(answer))
            responses += 1
            if responses == MOST_RESPONSES or method.endswith("WatchStats"):
                call.cancel()
                break
        return worst
    except grpc.aio.AioRpcError as error:
        return int(error.code().value[0])


def fault_in(answer: bytes) -> int:
    """The code of a fault of the server's that an answer tells of, for a row of it."""
    return grpc.StatusCode.INTERNAL.value[0] if b"INTERNAL" in answer else 0


@pytest.mark.parametrize("method", METHODS)
async def test_wrong_requests_are_refused_and_nobody_else_notices(attacked: Attacked, method: str) -> None:
    random = Random(method)
    right = attacked.requests[METHODS[method].input_type.full_name]
    codes: dict[int, int] = {}
    batch: list[bytes] = []
    for number, request in enumerate(wrong_requests(right, random), start=1):
        batch.append(request)
        if number % BATCH:
            continue
        for sent, code in zip(
            batch, await asyncio.gather(*(ask(attacked.caller, method, one) for one in batch)), strict=True
        ):
            codes[code] = codes.get(code, 0) + 1
            assert code not in FAULTS, sent.hex()
        batch.clear()
        await attacked.bystander.steps()
    assert sum(codes.values()) == REQUESTS
    # Neither were all refused, nor (where a request can be wrong at all) was none.
    assert set(codes) != {0} or not METHODS[method].input_type.fields
    await forget_everything(attacked.caller)


async def forget_everything(caller: Any) -> None:
    """Every session of the attacker's can be found and ended: nothing is leaked."""
    while True:
        listed = await caller.admin.ListSessions(admin_pb2.ListSessionsRequest(page_size=1_000))
        own = [session.session_id for session in listed.sessions if session.owner == "mallory"]
        for session_id in own:
            await caller.admin.CloseSession(admin_pb2.CloseSessionRequest(session_id=session_id))
        if not own:
            break
    assert [session.owner for session in listed.sessions] == ["ann"]
