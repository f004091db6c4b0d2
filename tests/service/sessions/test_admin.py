"""Calls AdminService: it describes the server and its sessions, and ends sessions from outside."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from google.protobuf.message import Message
from tests.helpers.caller import Caller, connect

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane.sessions import PageStart, SessionListing
from statewise.service.session_state import SessionScan
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2 as ap
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import Reason, pack_uint64


async def test_the_server_is_described(repository: Path) -> None:
    limits: dict[str, Any] = {
        "message_bytes": 70_000,
        "request_rows": 12,
        "request_steps": 13,
        "sessions": 14,
        "state_bytes": 15_000,
        "queue_steps": 16,
        "stream_requests": 17,
    }
    before_s = time.time()
    async with (
        running_server(repository, idle_timeout_s=1.5, **limits) as address,
        connect(address) as caller,
    ):
        told = await caller.admin.GetServer(ap.GetServerRequest())
    assert {name: getattr(told.limits, name) for name in limits} == limits
    assert told.limits.idle_timeout.ToNanoseconds() == 1_500_000_000
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", told.version)
    assert told.onnxruntime_version == onnxruntime.__version__
    assert before_s - 1 < told.started_at.ToNanoseconds() / 1e9 < time.time() + 1
    assert (told.store, told.draining) == ("none", False)


async def test_a_session_as_it_is_seen_from_outside(caller: Caller, random: np.random.Generator) -> None:
    (handle,) = await caller.open("steps", "a", version=1)
    await caller.step(handle, 0, random.standard_normal((5, 3)).astype(np.float32))
    await caller.ask(resume=sp.ResumeSessionsRequest(session_ids=["a"]))
    seen = (await caller.admin.GetSession(ap.GetSessionRequest(session_id="a"))).session
    assert (seen.session_id, seen.owner, seen.model, seen.version) == ("a", "", "steps", 1)
    assert (seen.position, seen.durable_position, seen.epoch) == (5, 0, 2)
    assert 0 <= seen.idle.ToNanoseconds() < 60e9
    (listed,) = (await caller.admin.ListSessions(ap.ListSessionsRequest())).sessions
    listed.idle.CopyFrom(seen.idle)
    assert listed == seen


async def test_what_is_open_during_a_whole_listing_is_listed_once(caller: Caller) -> None:
    handles = await caller.open("steps", *(f"old {number}" for number in range(20)))
    seen: list[str] = []
    token, page = "", 0
    while page == 0 or token:
        request = ap.ListSessionsRequest(page_size=3, page_token=token)
        listed = await caller.admin.ListSessions(request)
        assert len(listed.sessions) <= 3
        seen += [session.session_id for session in listed.sessions]
        token = listed.next_page_token
        # A listed session ends, and another takes its place.
        ended = pack_uint64([handles[page]])
        await caller.ask(close=sp.CloseSessionsRequest(handles=ended))
        await caller.open("steps", f"new {page}")
        page += 1
    assert page > 5
    assert len(set(seen)) == len(seen)
    assert {f"old {number}" for number in range(page, 20)} <= set(seen)


async def test_a_page_reads_a_bounded_number_of_bytes_of_states(repository: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False)
        dataplane = build_dataplane(settings, executor=executor)
        await dataplane.models.load_all()
        (model,) = (one for one in dataplane.models if one.key == ("steps", 1))
        await dataplane.sessions.open("steps", 1, [f"s{number}" for number in range(7)], owner="")
        listing = SessionListing(
            dataplane.models,
            dataplane.table,
            scan=SessionScan(dataplane.table),
            page_state_bytes=3 * model.arena.bytes_per_session // 2,
        )
        pages: list[int] = []
        start: PageStart | None = None
        while start is not None or not pages:
            page, start = await listing.page(owner=None, start=start, size=5, model="steps")
            pages.append(len(page))
    assert pages == [3, 3, 1]


async def test_a_page_describes_so_few_sessions_that_steps_go_on(caller: Caller) -> None:
    await caller.open("steps", *map(str, range(1100)))
    request = ap.ListSessionsRequest(page_size=10_000)
    first = await caller.admin.ListSessions(request)
    assert len(first.sessions) == 1024
    request.page_token = first.next_page_token
    last = await caller.admin.ListSessions(request)
    assert (len(last.sessions), last.next_page_token) == (1100 - 1024, "")


@pytest.mark.parametrize(
    ("call", "request_", "code", "words"),
    [
        (
            "ListSessions",
            ap.ListSessionsRequest(page_size=10_001),
            "INVALID_ARGUMENT",
            "expected a page_size up to 10000; got 10001",
        ),
        (
            "ListSessions",
            ap.ListSessionsRequest(page_token="AAAAAAAA"),
            "INVALID_ARGUMENT",
            "expected the page_token of an earlier page; got 'AAAAAAAA'",
        ),
        ("GetSession", ap.GetSessionRequest(session_id="x"), "NOT_FOUND", "no session 'x' is open"),
        ("CloseSession", ap.CloseSessionRequest(session_id="x"), "NOT_FOUND", "no session 'x' is open"),
    ],
)
async def test_requests_that_cannot_be(
    caller: Caller, call: str, request_: Message, code: str, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=words) as failure:
        await getattr(caller.admin, call)(request_)
    assert failure.value.code().name == code


async def test_a_session_ends_behind_what_was_asked_of_it_before(
    caller: Caller, random: np.random.Generator
) -> None:
    x = random.standard_normal((50_000, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    await caller.send(step=caller.frame([(handle, 0)], x, steps=[len(x)]))
    resume = await caller.send(resume=sp.ResumeSessionsRequest(session_ids=["nobody"]))
    first = await caller.receive()
    # A reply to either says that the server has taken the step.
    await caller.admin.CloseSession(ap.CloseSessionRequest(session_id="a"))
    second = await caller.receive()
    assert resume in (first.request_id, second.request_id)
    stepped = second if first.request_id == resume else first
    assert stepped.WhichOneof("result") == "step"
    assert not stepped.step.errors
    reply = await caller.ask(step=caller.frame([(handle, len(x))], x[:1]))
    assert [error.reason for error in reply.errors] == ["SESSION_NOT_FOUND"]


async def test_sessions_that_expired_are_said_to_have(repository: Path) -> None:
    now_s = 0.0
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False, idle_timeout_s=60.0)
        dataplane = build_dataplane(settings, executor=executor, clock=lambda: now_s)
        await dataplane.models.load_all()
        await dataplane.sessions.open("steps", 0, ["a"], owner="")
        now_s = 61.0
        assert sum(dataplane.idle_expiry.expire()) == 1
        with pytest.raises(ServiceError, match="session 'a' was idle for too long") as seen:
            await dataplane.session_administration.get("a", owner="")
        with pytest.raises(ServiceError) as closed:
            await dataplane.session_administration.close("a", owner="")
        assert [failure.value.reason for failure in (seen, closed)] == [Reason.SESSION_EXPIRED] * 2
