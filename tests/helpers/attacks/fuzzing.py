"""Sends a thousand wrong requests to one call, and looks after everybody else meanwhile.

A fault of the server (INTERNAL, UNKNOWN) is a failure: it would be a wrong request that the server did not
see coming.
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

from statewise.service import Scope, add_token
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, model_pb2
from statewise.v1 import sequence_pb2 as pb

from .mutation import changed, damaged

REQUESTS = 1_000
BATCH = 50
MOST_RESPONSES = 3  # of one call: some never end
FAULTS = {grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.UNKNOWN.value[0]}

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (pb, model_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True)
class Attacked:
    """A server, the attacker, and somebody else who has a session."""

    caller: Caller
    bystander: Bystander

    async def withstands(self, method: str, right: Sequence[Message]) -> None:
        """Sends requests that were right once; fails where one of them is a fault of the server's, where the
        bystander notices, or where something is left behind.
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
        # A fuzzer all of whose requests are good, or none, tests nothing.
        assert set(codes) != {0}
        assert len(codes) > 1
        await forget_everything(self.caller)


@asynccontextmanager
async def attacked(repository: Path, callers: Path, small_models: SmallModels) -> AsyncIterator[Attacked]:
    """Serves a repository, which has the model `steps`, to both."""
    theirs, own = (add_token(callers, owner, list(Scope)) for owner in ("ann", "mallory"))
    async with (
        running_server(
            repository, callers=callers, sessions=2_000, snapshot_key="k", repository_poll_s=0
        ) as address,
        connect_bystander(address, small_models, token=theirs) as bystander,
        connect(address, token=own) as caller,
    ):
        yield Attacked(caller, bystander)


def wrong_requests(right: Sequence[Message], random: Random) -> Iterator[bytes]:
    """Half of them decode."""
    for number in range(REQUESTS):
        yield (changed if number % 2 else damaged)(random.choice(right), random)


async def ask(caller: Caller, method: str, request: bytes) -> int:
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


def by_type(requests: Sequence[Message]) -> dict[str, list[Message]]:
    """Requests by the name of their type; those of sessions also as they travel on a stream."""
    found: dict[str, list[Message]] = {}
    for request in requests:
        found.setdefault(request.DESCRIPTOR.full_name, []).append(request)
    operations = {
        field.message_type.full_name: field.name
        for field in pb.SessionStreamRequest.DESCRIPTOR.oneofs_by_name["operation"].fields
    }
    found["statewise.v1.SessionStreamRequest"] = [
        pb.SessionStreamRequest(request_id=7, **{operations[kind]: request})
        for kind, of_kind in found.items()
        if kind in operations
        for request in of_kind
    ]
    return found


async def forget_everything(caller: Caller) -> None:
    """Every session of the attacker's can be found and ended: nothing is leaked."""
    while True:
        listed = await caller.admin.ListSessions(admin_pb2.ListSessionsRequest(page_size=1_000))
        own = [session.session_id for session in listed.sessions if session.owner == "mallory"]
        for session_id in own:
            await caller.admin.CloseSession(admin_pb2.CloseSessionRequest(session_id=session_id))
        if not own:
            break
    assert [session.owner for session in listed.sessions] == ["ann"]
