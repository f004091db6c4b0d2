"""Who is let in, what for, and that nobody meets what is another's."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from tests.helpers.caller import connect

from statewise.service import CallersError, Scope, ServerError, ServiceError, Settings, add_token
from statewise.service.auth._callers import Callers, digest_of, read_callers
from statewise.service.server import Server
from statewise.service.testing import running_server
from statewise.service.transport._auth_interceptor import SCOPES
from statewise.v1 import admin_pb2, model_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, pack_uint64, to_tensor

CONTRACT = {
    f"/{service.full_name}/{method.name}": method
    for file in (pb, model_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
X = np.ones((1, 3), np.float32)


@pytest.fixture
def callers(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A callers file, and a token for each owner named in it."""
    path = tmp_path / "callers.toml"
    scopes = {
        "ann": [Scope.PREDICT, Scope.SESSION],
        "bob": [Scope.PREDICT, Scope.SESSION],
        "scorer": [Scope.PREDICT],
        "root": [Scope.ADMIN],
    }
    return path, {owner: add_token(path, owner, scopes) for owner, scopes in scopes.items()}


@pytest.fixture
async def guarded(repository: Path, callers: Any) -> AsyncIterator[str]:
    """A server that wants tokens."""
    async with running_server(repository, callers=callers[0], snapshot_key="k") as address:
        yield address


@pytest.fixture
def enter(guarded: str, callers: Any) -> Callable[[str], Any]:
    """Connects one of the owners to it."""
    return lambda owner: connect(guarded, token=callers[1][owner])


def reason(error: grpc.aio.AioRpcError) -> str:
    """The word in the error's details."""
    status = rpc_status.from_call(error)
    assert status is not None
    (detail,) = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    return info.reason


async def ask_raw(address: str, method: str, *, token: str | None) -> grpc.aio.AioRpcError | None:
    """Calls a method with an empty request, or stream of none; gives the error, or None for an answer."""
    metadata = [] if token is None else [("authorization", token)]
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        kind = channel.stream_stream if CONTRACT[method].client_streaming else channel.unary_stream
        try:
            # A request on its way when a stream ends would hide the status it ends with.
            request = iter(()) if CONTRACT[method].client_streaming else b""
            async for _ in kind(method)(request, metadata=metadata):
                return None
        except grpc.aio.AioRpcError as error:
            return error
    return None


@pytest.mark.parametrize("method", CONTRACT)
async def test_no_call_of_the_contract_is_open_to_strangers(guarded: str, callers: Any, method: str) -> None:
    wrong = "swt_" + "x" * 43
    good = callers[1]["ann"]
    for token in (None, f"Bearer {wrong}", f"Basic {good}", "Bearer", f"Bearer {good}x", good):
        error = await ask_raw(guarded, method, token=token)
        assert error is not None, token
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert wrong not in str(error.details())
        assert good not in str(error.details())


@pytest.mark.parametrize("method", CONTRACT)
async def test_every_call_needs_its_scope(guarded: str, callers: Any, method: str, tmp_path: Path) -> None:
    _, service, name = method.split("/")
    for owner, scopes in (("scorer", {"predict"}), ("ann", {"predict", "session"}), ("root", {"admin"})):
        error = await ask_raw(guarded, method, token=f"Bearer {callers[1][owner]}")
        refused = error is not None and error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert refused == scopes.isdisjoint(SCOPES[service][name]), owner
        if refused:
            assert error is not None
            assert reason(error) == "PERMISSION_DENIED"


def test_the_table_of_scopes_holds_the_contract() -> None:
    """A call that is missing there would be for admins alone."""
    listed = {f"/{service}/{name}" for service, methods in SCOPES.items() for name in methods}
    assert listed == {*CONTRACT, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}


async def test_probes_need_no_credentials(guarded: str) -> None:
    async with grpc.aio.insecure_channel(guarded) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_what_a_stranger_sends_is_not_even_decoded(guarded: str) -> None:
    async with grpc.aio.insecure_channel(guarded) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/statewise.v1.SequenceService/Step")(b"\xff" * 100)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_another_owners_session_does_not_exist(enter: Any) -> None:
    """By its exact id, by its exact handle, in every operation; and its owner notices nothing."""
    async with enter("ann") as ann, enter("bob") as bob:
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
            },  # no input: nothing is said of any
            {"step": pb.StepRequest(handles=handles, positions=positions, inputs={"?": to_tensor(X)})},
            {"fork": pb.ForkSessionsRequest(handles=handles, session_ids=["twin"])},
            {"rewind": pb.RewindSessionsRequest(handles=handles, positions=positions)},
            {"snapshot": pb.SnapshotSessionsRequest(handles=handles)},
        ):
            reply = await bob.ask(**operation)
            assert [error.reason for error in reply.errors] == ["SESSION_NOT_FOUND"], operation
        # Of a model that does not generate, which is not said either.
        generate = pb.GenerateSessionsRequest(handles=handles, positions=positions, steps=pack_uint32([1]))
        generated = await bob.ask(generate=generate)
        assert [error.reason for error in generated.errors] == ["SESSION_NOT_FOUND"]
        assert (await bob.receive()).generate.done
        # In one frame with a session of another model, which the foreign one must not be compared with.
        mixed = await bob.ask(step=ann.frame([(own, 0), (handle, 1)], np.ones((2, 3), np.float32)))
        assert [(error.row, error.reason) for error in mixed.errors] == [(1, "SESSION_NOT_FOUND")]
        # Closing what is not there is no failure; it must not close what is.
        assert not (await bob.ask(close=pb.CloseSessionsRequest(handles=handles))).errors
        for call in (
            bob.admin.GetSession(admin_pb2.GetSessionRequest(session_id="a")),
            bob.admin.CloseSession(admin_pb2.CloseSessionRequest(session_id="a")),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="no session 'a' is open"):
                await call
        listed = await bob.admin.ListSessions(admin_pb2.ListSessionsRequest())
        assert [session.session_id for session in listed.sessions] == ["b"]
        # The same id, and another session.
        (other,) = await bob.open("steps", "a")
        assert other != handle
        assert (await bob.step(other, 0, X)).tobytes() == first.tobytes()
        assert (await ann.step(handle, 0, X)).tobytes() == first.tobytes()
        await ann.step(handle, 1, X)
        # A handle that is void by now is its owner's business, too.
        await ann.ask(resume=pb.ResumeSessionsRequest(session_ids=["a"]))
        moved = [await caller.ask(step=ann.frame([(handle, 2)], X)) for caller in (ann, bob)]
        assert [reply.errors[0].reason for reply in moved] == ["SESSION_MOVED", "SESSION_NOT_FOUND"]


async def test_snapshots_are_their_owners(enter: Any) -> None:
    async with enter("ann") as ann, enter("bob") as bob:
        (handle,) = await ann.open("steps", "a")
        (token,) = (await ann.ask(snapshot=pb.SnapshotSessionsRequest(handles=pack_uint64([handle])))).tokens
        for caller, said in ((bob, "another owner"), (ann, "")):
            reply = await caller.ask(restore=pb.RestoreSessionsRequest(tokens=[token], session_ids=["r"]))
            assert [error.reason for error in reply.errors] == ["BAD_SNAPSHOT"] * bool(said)
            assert all(said in error.message for error in reply.errors)


async def test_admins_see_and_end_everybodys_sessions_and_others_their_own(enter: Any) -> None:
    async with enter("ann") as ann, enter("bob") as bob, enter("root") as root:
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
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert reason(refused.value) == "PERMISSION_DENIED"
        await root.admin.CloseSession(admin_pb2.CloseSessionRequest(owner="bob", session_id="b"))
        gone = await bob.ask(resume=pb.ResumeSessionsRequest(session_ids=["b"]))
        assert gone.errors[0].reason == "SESSION_NOT_FOUND"


async def test_every_owner_has_a_share(repository: Path, callers: Any) -> None:
    path, tokens = callers
    # A session of `steps` keeps 16 float32 numbers twice: 128 bytes.
    for limits, word in (
        ({"owner_sessions": 2}, "SESSION_LIMIT"),
        ({"owner_state_bytes": 300}, "BYTES_LIMIT"),
    ):
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


async def test_a_changed_file_counts_at_once_and_ends_the_streams_of_who_is_gone(
    guarded: str, callers: Any
) -> None:
    path, tokens = callers
    without_ann = path.read_text().replace(path.read_text().split("\n\n")[0], "")
    new = add_token(path, "ann", [Scope.SESSION])
    async with connect(guarded, token=tokens["ann"]) as old, connect(guarded, token=tokens["bob"]) as bob:
        await old.open("steps", "a")
        await bob.open("steps", "b")
        written = path.with_suffix(".new")
        written.write_text(without_ann + path.read_text().rsplit("\n\n", 1)[1])
        written.replace(path)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await old.stream.read()
        assert reason(ended.value) == "UNAUTHENTICATED"
        with pytest.raises(grpc.aio.AioRpcError, match="not known"):
            await old.models.ListModels(model_pb2.ListModelsRequest())
        async with connect(guarded, token=new) as renewed:
            resumed = await renewed.ask(resume=pb.ResumeSessionsRequest(session_ids=["a"]))
            assert not resumed.errors
        assert not (await bob.ask(resume=pb.ResumeSessionsRequest(session_ids=["b"]))).errors


def test_a_file_that_cannot_be_read_leaves_the_callers_as_they_were(callers: Any, caplog: Any) -> None:
    path, tokens = callers
    known = Callers(path)
    path.write_text("[[caller]]\nowner = 'ann'\n")
    assert not known.follow()
    assert "stay as they were" in caplog.text
    shown = f"Bearer {tokens['ann']}"
    assert known.identify(authorization=shown, certificate_names=[]).owner == "ann"
    path.unlink()
    assert not known.follow()
    add_token(path, "eve", [Scope.SESSION])
    assert known.follow()
    with pytest.raises(Exception, match="the token is not known"):
        known.identify(authorization=shown, certificate_names=[])


ENTRY = {"owner": '"ann"', "scopes": '["session"]', "token_sha256": f'"{"0" * 64}"'}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"owner": None}, r"caller\.1\.owner: Field required"),
        ({"owner": '""'}, r"caller\.1\.owner: .* at least 1"),
        ({"scopes": '["everything"]'}, r"caller\.1\.scopes\.1: .*'predict', 'session' or 'admin'"),
        ({"scopes": "[]"}, r"caller\.1\.scopes: .* at least 1"),
        ({"token_sha256": '"swt_secret"'}, r"caller\.1\.token_sha256: .*pattern"),
        ({"token_sha256": None}, r"caller\.1: .*either token_sha256 or certificate"),
        ({"certificate": '"ann"'}, r"caller\.1: .*either token_sha256 or certificate"),
        ({"token": '"swt_secret"'}, r"caller\.1\.token: Extra inputs"),
        ({"owner": '"unclosed'}, "Illegal character|Unterminated"),
    ],
)
def test_entries_that_cannot_be_used_are_named_and_no_secret_with_them(
    tmp_path: Path, changes: dict[str, str | None], words: str
) -> None:
    entry = {key: value for key, value in {**ENTRY, **changes}.items() if value is not None}
    path = tmp_path / "callers.toml"
    path.write_text("[[caller]]\n" + "".join(f"{key} = {value}\n" for key, value in entry.items()))
    with pytest.raises(CallersError, match=words) as refused:
        read_callers(path)
    assert str(path) in str(refused.value)
    assert "swt_secret" not in str(refused.value)


def test_the_whole_of_a_tokens_digest_counts(tmp_path: Path) -> None:
    path = tmp_path / "callers.toml"
    token = add_token(path, "ann", [Scope.SESSION])
    digest = digest_of(token)
    path.write_text(path.read_text().replace(digest, digest[:-1] + f"{int(digest[-1], 16) ^ 1:x}"))
    with pytest.raises(ServiceError, match="the token is not known"):
        Callers(path).identify(authorization=f"Bearer {token}", certificate_names=[])


def test_nobody_shares_a_token_and_a_file_without_callers_is_none(tmp_path: Path) -> None:
    path = tmp_path / "callers.toml"
    path.write_text(("[[caller]]\n" + "".join(f"{k} = {v}\n" for k, v in ENTRY.items())) * 2)
    with pytest.raises(CallersError, match="the same token"):
        read_callers(path)
    path.write_text("")
    with pytest.raises(CallersError, match="caller: Field required"):
        read_callers(path)
    before = "[[caller]]\nowner = 1\n"
    path.write_text(before)
    with pytest.raises(CallersError, match=r"callers\.toml: caller\.1"):
        add_token(path, "ann", [Scope.SESSION])
    assert path.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["callers.toml"]


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "gateway.example.org:0"])
async def test_strangers_are_not_served_unless_that_is_said(
    repository: Path, listen: str, callers: Any
) -> None:
    for settings, words in (
        ({}, "no TLS .* and no callers"),
        ({"callers": callers[0]}, "no TLS .*; configure"),
    ):
        server = Server(Settings(repository=repository, listen=listen, **settings))
        with pytest.raises(ServerError, match=words):
            await server.start()
        await server.stop()


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
async def test_this_machine_may_call_without_credentials(repository: Path, listen: str) -> None:
    async with running_server(repository, listen=listen) as address, connect(address) as caller:
        assert (await caller.models.ListModels(model_pb2.ListModelsRequest())).models


async def test_predict_is_for_who_may(enter: Any) -> None:
    request = pb.PredictRequest(model="last", lengths=pack_uint32([1]), inputs={"x": to_tensor(X)})
    async with enter("scorer") as scorer, enter("root") as root:
        assert [part.rows async for part in scorer.sequences.Predict(request)] == [pack_uint32([0])]
        with pytest.raises(grpc.aio.AioRpcError, match="needs the scope predict; 'root' has admin"):
            _ = [part async for part in root.sequences.Predict(request)]
