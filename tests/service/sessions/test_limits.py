"""Opens more sessions than a server may hold, and pages through those that are open."""

from pathlib import Path

import grpc
import pytest
from tests.helpers.caller import Caller, connect

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, sequence_pb2


async def test_sessions_are_listed_page_by_page_and_closed_by_id(caller: Caller) -> None:
    await caller.open("steps", "a", "b", "c")
    await caller.open("last", "d")
    seen, token = [], ""
    while True:
        request = admin_pb2.ListSessionsRequest(page_size=2, page_token=token)
        page = await caller.admin.ListSessions(request)
        seen += [session.session_id for session in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == ["a", "b", "c", "d"]
    only = await caller.admin.ListSessions(admin_pb2.ListSessionsRequest(model="last"))
    assert [session.session_id for session in only.sessions] == ["d"]
    await caller.admin.CloseSession(admin_pb2.CloseSessionRequest(session_id="d"))
    with pytest.raises(grpc.aio.AioRpcError, match="no session 'd' is open"):
        await caller.admin.GetSession(admin_pb2.GetSessionRequest(session_id="d"))
    with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
        await caller.admin.ListSessions(admin_pb2.ListSessionsRequest(page_token="?"))


async def test_limits_of_sessions_and_bytes(repository: Path) -> None:
    # A session of `steps` keeps 16 float32 numbers twice: 128 bytes.
    async with running_server(repository, sessions=3) as address, connect(address) as caller:
        request = sequence_pb2.OpenSessionsRequest(model="steps", session_ids=list("abcde"))
        opened = await caller.ask(open=request)
        assert [session.session_id for session in opened.sessions] == ["a", "b", "c"]
        assert {(error.row, error.reason, error.code) for error in opened.errors} == {
            (3, "SESSION_LIMIT", 8),
            (4, "SESSION_LIMIT", 8),
        }
    async with running_server(repository, state_bytes=300) as address, connect(address) as caller:
        opened = await caller.ask(open=request)
        assert [error.reason for error in opened.errors] == ["BYTES_LIMIT"] * 3
