"""Calls a server with and without credentials: each call of the contract needs a token with its scope."""

from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.helpers.caller import connect
from tests.helpers.errors import only_reason_of
from tests.helpers.raw_calls import stream_stream, unary_stream, unary_unary
from tests.transport.owners.guarded import CallersFile, GuardedServer

from statewise.service import Scope, ServerError, Settings, add_token
from statewise.service.server import Server
from statewise.service.testing import running_server
from statewise.service.transport.calls import SCOPES
from statewise.v1 import admin_pb2, model_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, to_tensor

X = np.ones((1, 3), np.float32)
CONTRACT = {
    f"/{service.full_name}/{method.name}": method
    for file in (pb, model_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


async def ask_raw(address: str, method: str, *, token: str | None) -> grpc.aio.AioRpcError | None:
    """Calls a method with an empty request or an empty stream; gives the error, or None for an answer."""
    metadata = [] if token is None else [("authorization", token)]
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            # A request that is under way when the stream ends would hide the status that ends the stream.
            if CONTRACT[method].client_streaming:
                answers: AsyncIterable[bytes] = stream_stream(channel, method)(iter(()), metadata=metadata)
            else:
                answers = unary_stream(channel, method)(b"", metadata=metadata)
            async for _ in answers:
                return None
        except grpc.aio.AioRpcError as error:
            return error
    return None


@pytest.mark.parametrize("method", CONTRACT)
async def test_no_call_of_the_contract_is_open_to_strangers(
    guarded: GuardedServer, callers: CallersFile, method: str
) -> None:
    wrong = "swt_" + "x" * 43
    good = callers.tokens["ann"]
    for token in (None, f"Bearer {wrong}", f"Basic {good}", "Bearer", f"Bearer {good}x", good):
        error = await ask_raw(guarded.address, method, token=token)
        assert error is not None, token
        assert (error.code(), only_reason_of(error)) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert wrong not in str(error.details())
        assert good not in str(error.details())


@pytest.mark.parametrize("method", CONTRACT)
async def test_every_call_needs_its_scope(
    guarded: GuardedServer, callers: CallersFile, method: str, tmp_path: Path
) -> None:
    _, service, name = method.split("/")
    for owner, scopes in (("scorer", {"predict"}), ("ann", {"predict", "session"}), ("root", {"admin"})):
        error = await ask_raw(guarded.address, method, token=f"Bearer {callers.tokens[owner]}")
        refused = error is not None and error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert refused == scopes.isdisjoint(SCOPES[service][name]), owner
        if refused:
            assert error is not None
            assert only_reason_of(error) == "PERMISSION_DENIED"


def test_the_table_of_scopes_holds_the_contract() -> None:
    """A call that is missing in the table would be for admins alone."""
    listed = {f"/{service}/{name}" for service, methods in SCOPES.items() for name in methods}
    assert listed == {*CONTRACT, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}


async def test_probes_need_no_credentials(guarded: GuardedServer) -> None:
    async with grpc.aio.insecure_channel(guarded.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_two_credentials_in_one_call_are_refused(guarded: GuardedServer, callers: CallersFile) -> None:
    """A proxy in front may have checked the other one."""
    method = "/statewise.v1.AdminService/GetServer"
    tokens = [("authorization", f"Bearer {callers.tokens[owner]}") for owner in ("ann", "root")]
    async with grpc.aio.insecure_channel(guarded.address) as channel:
        for metadata in (tokens, tokens[::-1], [tokens[0]] * 2):
            with pytest.raises(grpc.aio.AioRpcError, match="one authorization header") as refused:
                await unary_unary(channel, method)(b"", metadata=metadata)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await unary_unary(channel, method)(b"", metadata=tokens[:1])


async def test_what_a_stranger_sends_is_not_even_decoded(guarded: GuardedServer) -> None:
    async with grpc.aio.insecure_channel(guarded.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary_unary(channel, "/statewise.v1.SequenceService/Step")(b"\xff" * 100)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_changed_file_counts_at_once_and_ends_the_streams_of_who_is_gone(
    guarded: GuardedServer, callers: CallersFile
) -> None:
    path, tokens = callers.path, callers.tokens
    without_ann = path.read_text().replace(path.read_text().split("\n\n")[0], "")
    new = add_token(path, "ann", [Scope.SESSION])
    async with (
        connect(guarded.address, token=tokens["ann"]) as old,
        connect(guarded.address, token=tokens["bob"]) as bob,
    ):
        await old.open("steps", "a")
        await bob.open("steps", "b")
        written = path.with_suffix(".new")
        written.write_text(without_ann + path.read_text().rsplit("\n\n", 1)[1])
        written.replace(path)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await old.stream.read()
        assert only_reason_of(ended.value) == "UNAUTHENTICATED"
        with pytest.raises(grpc.aio.AioRpcError, match="not known"):
            await old.models.ListModels(model_pb2.ListModelsRequest())
        async with connect(guarded.address, token=new) as renewed:
            resumed = await renewed.ask(resume=pb.ResumeSessionsRequest(session_ids=["a"]))
            assert not resumed.errors
        assert not (await bob.ask(resume=pb.ResumeSessionsRequest(session_ids=["b"]))).errors


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "gateway.example.org:0"])
async def test_strangers_are_not_served_unless_that_is_said(
    repository: Path, listen: str, callers: CallersFile
) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "no TLS .* and no callers"),
        ({"callers": callers.path}, "no TLS .*; configure"),
    ]
    for settings, words in cases:
        server = Server(Settings(repository=repository, listen=listen, **settings))
        with pytest.raises(ServerError, match=words):
            await server.start()
        await server.stop()


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
async def test_this_machine_may_call_without_credentials(repository: Path, listen: str) -> None:
    async with running_server(repository, listen=listen) as address, connect(address) as caller:
        assert (await caller.models.ListModels(model_pb2.ListModelsRequest())).models


async def test_predict_is_for_who_may(guarded: GuardedServer) -> None:
    request = pb.PredictRequest(model="last", lengths=pack_uint32([1]), inputs={"x": to_tensor(X)})
    async with guarded.connect("scorer") as scorer, guarded.connect("root") as root:
        assert [part.rows async for part in scorer.sequences.Predict(request)] == [pack_uint32([0])]
        with pytest.raises(grpc.aio.AioRpcError, match="needs the scope predict; 'root' has admin"):
            _ = [part async for part in root.sequences.Predict(request)]
