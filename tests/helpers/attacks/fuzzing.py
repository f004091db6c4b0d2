"""Sends a thousand wrong requests to one call, while a bystander steps a session.

The test fails if a request is answered by a fault of the server, INTERNAL or UNKNOWN.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import grpc
from google.protobuf.message import Message
from tests.helpers.attacks.bystander import Bystander, connect_bystander
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels
from tests.helpers.raw_calls import stream_stream, unary_stream

from statewise.service import Scope, add_token
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, model_pb2
from statewise.v1 import sequence_pb2 as pb

from .mutation import changed, damaged

REQUESTS = 1_000
BATCH = 50
MOST_RESPONSES = 3  # read from one call, as some calls never end
FAULTS = {grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.UNKNOWN.value[0]}

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (pb, model_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True)
class Attacked:
    """A server under attack: the attacker's caller, and a bystander who has a session."""

    caller: Caller
    bystander: Bystander

    async def withstands(self, method: str, right: Sequence[Message]) -> None:
        """Sends right requests made wrong.

        Fails if an answer is a fault of the server, if the bystander notices, or if a session is left behind.
        """
        codes: Counter[int] = Counter()
        requests = list(wrong_requests(right, Random(method)))
        for begin in range(0, REQUESTS, BATCH):
            batch = requests[begin : begin + BATCH]
            answered = await asyncio.gather(*(ask(self.caller, method, one) for one in batch))
            for sent, code in zip(batch, answered, strict=True):
                assert code not in FAULTS, sent.hex()
            codes.update(answered)
            await self.bystander.steps()
        assert codes.total() == REQUESTS
        # If all requests were right, or all wrong, the fuzzer would test nothing.
        assert set(codes) != {0}
        assert len(codes) > 1
        await forget_everything(self.caller)


@asynccontextmanager
async def attacked(repository: Path, callers: Path, small_models: SmallModels) -> AsyncIterator[Attacked]:
    """Serves a repository, which has the model `steps`, to an attacker and a bystander."""
    theirs, own = (add_token(callers, owner, list(Scope)) for owner in ("ann", "mallory"))
    async with (
        running_server(
            repository, callers=callers, sessions=2_000, snapshot_key="k" * 16, repository_poll_s=0
        ) as address,
        connect_bystander(address, small_models, token=theirs) as bystander,
        connect(address, token=own) as caller,
    ):
        yield Attacked(caller, bystander)


def wrong_requests(right: Sequence[Message], random: Random) -> Iterator[bytes]:
    """Right requests made wrong; half of them still decode."""
    for number in range(REQUESTS):
        yield (changed if number % 2 else damaged)(random.choice(right), random)


async def ask(caller: Caller, method: str, request: bytes) -> int:
    """Sends bytes as they are; gives the code of the call, or the worst code among its answers."""
    kind = METHODS[method]
    try:
        if kind.client_streaming:
            stream = stream_stream(caller.channel, method)()
            await stream.write(request)
            await stream.done_writing()
            worst = 0
            while isinstance(answer := await stream.read(), bytes):
                told = pb.SessionStreamResponse.FromString(answer)
                worst = max(worst, fault_in(answer), told.error.code)
            return worst
        call = unary_stream(caller.channel, method)(request)
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
    """INTERNAL if an answer names this fault for one of its rows, otherwise 0."""
    return grpc.StatusCode.INTERNAL.value[0] if b"INTERNAL" in answer else 0


def by_type(requests: Sequence[Message]) -> dict[str, list[Message]]:
    """Requests by the name of their type; those to sessions also as messages of a stream."""
    found: dict[str, list[Message]] = {}
    for request in requests:
        found.setdefault(request.DESCRIPTOR.full_name, []).append(request)
    operations: dict[str, str] = {
        field.message_type.full_name: field.name
        for field in pb.SessionStreamRequest.DESCRIPTOR.oneofs_by_name["operation"].fields
        if field.message_type is not None
    }
    found["statewise.v1.SessionStreamRequest"] = [
        _on_stream(operations[kind], request)
        for kind, of_kind in found.items()
        if kind in operations
        for request in of_kind
    ]
    return found


def _on_stream(operation: str, request: Message) -> pb.SessionStreamRequest:
    message = pb.SessionStreamRequest(request_id=7)
    getattr(message, operation).CopyFrom(request)
    return message


async def forget_everything(caller: Caller) -> None:
    """Lists and closes the attacker's sessions; fails if one cannot be closed, or if another is listed."""
    while True:
        listed = await caller.admin.ListSessions(admin_pb2.ListSessionsRequest(page_size=1_000))
        own = [session.session_id for session in listed.sessions if session.owner == "mallory"]
        for session_id in own:
            await caller.admin.CloseSession(admin_pb2.CloseSessionRequest(session_id=session_id))
        if not own:
            break
    assert [session.owner for session in listed.sessions] == ["ann"]
