"""Sends handles that open nothing: 0, which marks a free slot, handles of closed sessions, and guesses."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels
from tests.helpers.states import write_request
from tests.transport.owners.guarded import CallersFile, GuardedServer

from statewise.service.session_state import SessionTable
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64

X = np.full((1, 3), 1e3, np.float32)
LONG = 100_000
SLOT_MASK = 2**24 - 1


async def refuses_everywhere(caller: Caller, handle: int) -> None:
    """Tries every operation that takes handles, but closing, on the stream and by calls of their own."""
    handles = pack_uint64([handle])
    for position in (0, 1, 2):
        positions = pack_uint64([position])
        fork = pb.ForkSessionsRequest(handles=handles, session_ids=["twin"])
        rewind = pb.RewindSessionsRequest(handles=handles, positions=positions)
        snapshot = pb.SnapshotSessionsRequest(handles=handles)
        read = pb.ReadStatesRequest(handles=handles)
        write = write_request([(handle, position)], {"?": X})
        step = caller.frame([(handle, position)], X)
        for operation in (
            {"step": step},
            {"step": caller.frame([(handle, position)], np.repeat(X, 2, axis=0), steps=[2])},
            {"step": caller.frame([(handle, position), (1 << 40, 0)], np.repeat(X, 2, axis=0))},
            {"fork": fork},
            {"rewind": rewind},
            {"snapshot": snapshot},
            {"read_states": read},
            {"write_states": write},
        ):
            reply = await caller.ask(**operation)
            assert {error.reason for error in reply.errors} == {"SESSION_NOT_FOUND"}, operation
        generate = pb.GenerateSessionsRequest(handles=handles, positions=positions, steps=pack_uint32([1]))
        assert [error.reason for error in (await caller.ask(generate=generate)).errors] == [
            "SESSION_NOT_FOUND"
        ]
        assert (await caller.receive()).generate.done
        calls: list[Awaitable[Any]] = [
            caller.sequences.Step(step),
            caller.sequences.ForkSessions(fork),
            caller.sequences.RewindSessions(rewind),
            caller.sequences.SnapshotSessions(snapshot),
            caller.sequences.ReadStates(read),
            caller.sequences.WriteStates(write),
            caller.sequences.GenerateSessions(generate).read(),
        ]
        for call in calls:
            assert [error.reason for error in (await call).errors] == ["SESSION_NOT_FOUND"]


async def test_void_handles_open_nothing_in_any_operation(
    guarded: GuardedServer, small_models: SmallModels, random: np.random.Generator
) -> None:
    """Bob is the server's first owner; then his closed session has left free the slot that handle 0 names."""
    async with guarded.connect("bob") as bob, guarded.connect("ann") as ann:
        await bob.ask(resume=pb.ResumeSessionsRequest(session_ids=["none"]))
        await refuses_everywhere(bob, 0)
        (first,) = await bob.open("steps", "first")
        (second,) = await bob.open("last", "second")
        await bob.step(first, 0, X[0])
        for handle in (first, second):
            await bob.ask(close=pb.CloseSessionsRequest(handles=pack_uint64([handle])))
        (victim,) = await ann.open("steps", "victim")
        x = random.standard_normal((6, 3)).astype(np.float32)
        outputs = [await ann.step(victim, 0, x[:2])]
        for handle in (0, first, victim & SLOT_MASK, victim ^ (1 << 63)):
            await refuses_everywhere(bob, handle)
        outputs.append(await ann.step(victim, 2, x[2:]))
        assert np.concatenate(outputs).tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_closing_void_handles_frees_no_quota(repository: Path, callers: CallersFile) -> None:
    async with (
        running_server(repository, callers=callers.path, owner_sessions=3) as address,
        connect(address, token=callers.tokens["ann"]) as ann,
    ):
        handles = await ann.open("steps", "a", "b")
        await ann.ask(close=pb.CloseSessionsRequest(handles=pack_uint64(handles)))
        for handle in (0, *handles, 1):
            await ann.ask(close=pb.CloseSessionsRequest(handles=pack_uint64([handle])))
            await ann.sequences.CloseSessions(pb.CloseSessionsRequest(handles=pack_uint64([handle])))
        request = pb.OpenSessionsRequest(model="steps", session_ids=list("abcde"))
        opened = await ann.ask(open=request)
        assert [error.reason for error in opened.errors] == ["SESSION_LIMIT"] * 2


async def test_a_void_handle_does_not_hold_up_the_session_that_has_its_slot(
    repository: Path, callers: CallersFile
) -> None:
    """Bob's frame waits for Bob's long chunk; the guess in it must not make Ann's session wait, too."""
    async with (
        running_server(repository, callers=callers.path, piece_s=1e-9, inline_s=0.0) as address,
        connect(address, token=callers.tokens["ann"]) as ann,
        connect(address, token=callers.tokens["bob"]) as bob,
    ):
        (victim,) = await ann.open("steps", "victim")
        (own,) = await bob.open("steps", "own")
        guess = victim & SLOT_MASK | 1 << 40
        await bob.send(step=bob.frame([(own, 0)], np.zeros((LONG, 3), np.float32), steps=[LONG]))
        await bob.send(step=bob.frame([(own, 0), (guess, 0)], np.ones((2, 3), np.float32)))
        # The server has read Bob's frame when it answers his next request.
        await bob.ask(resume=pb.ResumeSessionsRequest(session_ids=["no such session"]))
        bobs = asyncio.ensure_future(bob.stream.read())
        assert (await ann.step(victim, 0, X[0])).shape == (1, 2)
        assert not bobs.done()
        bob.stream.cancel()
        with suppress(asyncio.CancelledError):
            await bobs


def test_a_slot_without_a_session_belongs_to_no_owner() -> None:
    """No number that an owner can have is that of a free slot, before its first session or after its last."""
    table = SessionTable(4, clock=lambda: 0.0)
    owner = table.owner_number("first")
    handles = np.zeros(1, np.uint64)
    row = 3
    for _ in range(2):
        for number in (owner, table.owner_number("second"), table.known_owner("unknown")):
            assert table.model_of_handle(0, owner=number) is None
            assert table.ready_slot(0, number, 0) is None
            assert table.refusal(0, 0, owner=number) is not None
            assert table.valid_slots(handles, owner=number).size == 0
            verdicts = table.classify(
                table.read(table.slots_of(handles)),
                handles,
                number,
                positions=np.zeros(1, np.uint64),
                steps=1,
                digests=np.zeros(1, np.uint64),
            )
            assert verdicts.good is not None
            assert not verdicts.good.any()
        slot = table.add(owner, "a", model=1, row=row)
        table.set_position(slot, 5)
        assert table.remove(slot) == row
        assert not table.read(np.array([slot])).any()
