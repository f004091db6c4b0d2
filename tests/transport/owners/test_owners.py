"""Calls a server as several owners: nobody sees, uses or ends another owner's sessions."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.caller import connect
from tests.helpers.errors import only_reason_of
from tests.helpers.states import write_request
from tests.transport.owners.guarded import CallersFile, GuardedServer

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64, to_tensor

X = np.ones((1, 3), np.float32)


async def test_another_owners_session_does_not_exist(guarded: GuardedServer) -> None:
    """Neither by id nor by handle, in no operation; and its owner notices nothing."""
    async with guarded.connect("ann") as ann, guarded.connect("bob") as bob:
        (handle,) = await ann.open("steps", "a")
        (own,) = await bob.open("last", "b")
        first = await ann.step(handle, 0, X)
        handles, positions = pack_uint64([handle]), pack_uint64([0])
        for operation in (
            {"resume": pb.ResumeSessionsRequest(session_ids=["a"])},
            {"step": ann.frame([(handle, 1)], X)},
            {"step": ann.frame([(handle, 0)], X)},
            {
                "step": pb.StepRequest(handles=handles, positions=positions)
            },  # no input, and the error names none
            {"step": pb.StepRequest(handles=handles, positions=positions, inputs={"?": to_tensor(X)})},
            {"fork": pb.ForkSessionsRequest(handles=handles, session_ids=["twin"])},
            {"rewind": pb.RewindSessionsRequest(handles=handles, positions=positions)},
            {"snapshot": pb.SnapshotSessionsRequest(handles=handles)},
            {"read_states": pb.ReadStatesRequest(handles=handles)},
            {"write_states": write_request([(handle, 1)], {"?": X})},
        ):
            reply = await bob.ask(**operation)
            assert [error.reason for error in reply.errors] == ["SESSION_NOT_FOUND"], operation
        # The model does not generate; the error does not say so either.
        generate = pb.GenerateSessionsRequest(handles=handles, positions=positions, steps=pack_uint32([1]))
        generated = await bob.ask(generate=generate)
        assert [error.reason for error in generated.errors] == ["SESSION_NOT_FOUND"]
        assert (await bob.receive()).generate.done
        # In one step with a session of another model: the error must not compare the models of the two.
        mixed = await bob.ask(step=ann.frame([(own, 0), (handle, 1)], np.ones((2, 3), np.float32)))
        assert [(error.row, error.reason) for error in mixed.errors] == [(1, "SESSION_NOT_FOUND")]
        # Closing a session that does not exist is no failure; it must not close the session of its owner.
        assert not (await bob.ask(close=pb.CloseSessionsRequest(handles=handles))).errors
        for call in (
            bob.admin.GetSession(admin_pb2.GetSessionRequest(session_id="a")),
            bob.admin.CloseSession(admin_pb2.CloseSessionRequest(session_id="a")),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="no session 'a' is open"):
                await call
        for ids in ([], ["a"]):
            states = await bob.admin.GetStates(admin_pb2.GetStatesRequest(model="steps", session_ids=ids))
            assert not states.session_ids
        listed = await bob.admin.ListSessions(admin_pb2.ListSessionsRequest())
        assert [session.session_id for session in listed.sessions] == ["b"]
        # Another owner's session of the same id is another session.
        (other,) = await bob.open("steps", "a")
        assert other != handle
        assert (await bob.step(other, 0, X)).tobytes() == first.tobytes()
        assert (await ann.step(handle, 0, X)).tobytes() == first.tobytes()
        await ann.step(handle, 1, X)
        # Only the owner learns that a handle is void.
        await ann.ask(resume=pb.ResumeSessionsRequest(session_ids=["a"]))
        moved = [await caller.ask(step=ann.frame([(handle, 2)], X)) for caller in (ann, bob)]
        assert [reply.errors[0].reason for reply in moved] == ["SESSION_MOVED", "SESSION_NOT_FOUND"]


async def test_snapshots_are_their_owners(guarded: GuardedServer) -> None:
    async with guarded.connect("ann") as ann, guarded.connect("bob") as bob:
        (handle,) = await ann.open("steps", "a")
        (token,) = (await ann.ask(snapshot=pb.SnapshotSessionsRequest(handles=pack_uint64([handle])))).tokens
        for caller, said in ((bob, "another owner"), (ann, "")):
            reply = await caller.ask(restore=pb.RestoreSessionsRequest(tokens=[token], session_ids=["r"]))
            assert [error.reason for error in reply.errors] == ["BAD_SNAPSHOT"] * bool(said)
            assert all(said in error.message for error in reply.errors)


async def test_admins_see_and_end_everybodys_sessions_and_others_their_own(guarded: GuardedServer) -> None:
    async with guarded.connect("ann") as ann, guarded.connect("bob") as bob, guarded.connect("root") as root:
        await ann.open("steps", "a")
        await bob.open("steps", "b")
        everybodys = await root.admin.ListSessions(admin_pb2.ListSessionsRequest())
        assert {(one.owner, one.session_id) for one in everybodys.sessions} == {("ann", "a"), ("bob", "b")}
        for owner, ids in (("ann", ["a"]), ("nobody", [])):
            listed = await root.admin.ListSessions(admin_pb2.ListSessionsRequest(owner=owner))
            assert [one.session_id for one in listed.sessions] == ids
        own = await ann.admin.ListSessions(admin_pb2.ListSessionsRequest(owner="ann"))
        assert [one.session_id for one in own.sessions] == ["a"]
        for call in (
            ann.admin.ListSessions(admin_pb2.ListSessionsRequest(owner="bob")),
            ann.admin.GetSession(admin_pb2.GetSessionRequest(owner="bob", session_id="b")),
            ann.admin.CloseSession(admin_pb2.CloseSessionRequest(owner="bob", session_id="b")),
            root.admin.GetSession(admin_pb2.GetSessionRequest(owner="bob", session_id="b", with_state=True)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert only_reason_of(refused.value) == "PERMISSION_DENIED"
        await root.admin.CloseSession(admin_pb2.CloseSessionRequest(owner="bob", session_id="b"))
        gone = await bob.ask(resume=pb.ResumeSessionsRequest(session_ids=["b"]))
        assert gone.errors[0].reason == "SESSION_NOT_FOUND"


async def test_every_owner_has_a_share(repository: Path, callers: CallersFile) -> None:
    path, tokens = callers.path, callers.tokens
    # A session of `steps` keeps 16 float32 numbers twice: 128 bytes.
    cases: list[tuple[dict[str, Any], str]] = [
        ({"owner_sessions": 2}, "SESSION_LIMIT"),
        ({"owner_state_bytes": 300}, "BYTES_LIMIT"),
    ]
    for limits, word in cases:
        async with (
            running_server(repository, callers=path, **limits) as address,
            connect(address, token=tokens["ann"]) as ann,
            connect(address, token=tokens["bob"]) as bob,
        ):
            request = pb.OpenSessionsRequest(model="steps", session_ids=list("abc"))
            opened = await ann.ask(open=request)
            assert [error.reason for error in opened.errors] == [word]
            fork = pb.ForkSessionsRequest(handles=pack_uint64([opened.sessions[0].handle]), session_ids=["f"])
            assert [error.reason for error in (await ann.ask(fork=fork)).errors] == [word]
            assert len((await bob.ask(open=request)).sessions) == 2
            close = pb.CloseSessionsRequest(handles=pack_uint64([opened.sessions[0].handle]))
            await ann.ask(close=close)
            assert len(await ann.open("steps", "d")) == 1
