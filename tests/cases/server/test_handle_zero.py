"""Guesses handle 0, which marks a free slot: it opens neither another owner's session nor a quota."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import Server, statewise
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels

from statewise.v1 import sequence_pb2 as pb
from statewise.wire import from_tensor, pack_uint64

QUOTA = 5


class Guarded:
    """A server that wants tokens, and a token for each owner, as the command makes them."""

    def __init__(self, target: str, tokens: dict[str, str]) -> None:
        self._target, self._tokens = target, tokens

    def connect(self, owner: str) -> AbstractAsyncContextManager[Caller]:
        return connect(self._target, token=self._tokens[owner])


@pytest.fixture
def guarded(repository: Path, tmp_path: Path) -> Iterator[Guarded]:
    callers = tmp_path / "callers.toml"
    tokens = {owner: statewise("token", owner, "--callers", callers).out.strip() for owner in ("ann", "bob")}
    env = {"STATEWISE_OWNER_SESSIONS": str(QUOTA), "STATEWISE_SNAPSHOT_KEY": "k" * 16}
    with Server(repository, "--callers", callers, env=env) as server:
        yield Guarded(server.target, tokens)


async def step(caller: Caller, handle: int, position: int, x: Array) -> pb.StepResponse:
    reply: pb.StepResponse = await caller.sequences.Step(caller.frame([(handle, position)], x[None]))
    return reply


async def opened(caller: Caller, session_id: str, model: str = "steps") -> list[int]:
    """The session's handle; nothing where the quota is full."""
    request = pb.OpenSessionsRequest(model=model, session_ids=[session_id])
    return [session.handle for session in (await caller.sequences.OpenSessions(request)).sessions]


async def close(caller: Caller, handle: int) -> None:
    await caller.sequences.CloseSessions(pb.CloseSessionsRequest(handles=pack_uint64([handle])))


async def test_handle_zero_opens_nothing(
    guarded: Guarded, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((5, 3)).astype(np.float32)
    expected = small_models.find("steps").run(x)[0]
    async with guarded.connect("bob") as bob, guarded.connect("ann") as ann:
        # Bob's closed sessions leave slots free, with whatever they held.
        for handle in [*await opened(bob, "first"), *await opened(bob, "second", "last")]:
            await close(bob, handle)
        (victim,) = await opened(ann, "victim")
        found = [await step(ann, victim, t, x[t]) for t in range(2)]

        zero = pb.SnapshotSessionsRequest(handles=pack_uint64([0]))
        snapshot = await bob.sequences.SnapshotSessions(zero)
        assert not any(snapshot.tokens)
        assert [error.reason for error in snapshot.errors] == ["SESSION_NOT_FOUND"]
        for position in range(2):
            reply = await step(bob, 0, position, np.full(3, 1e3, np.float32))
            assert [error.reason for error in reply.errors] == ["SESSION_NOT_FOUND"]

        found += [await step(ann, victim, t, x[t]) for t in range(2, 5)]
        assert not any(reply.errors for reply in found)
        y = np.concatenate([from_tensor(reply.outputs["y"]) for reply in found])
        assert y.tobytes() == expected.tobytes(), "the other owner's answers"

        for _ in range(20):
            await close(bob, 0)
        counted = [len(await opened(bob, f"more {number}")) for number in range(20)]
        assert sum(counted) == QUOTA
