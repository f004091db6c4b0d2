"""Closes sessions that are asleep, by handle and by id: they have ended in the store before the reply."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.service.durability.stored_server import StoredServer, names_of, serving
from tests.service.stores.places import Open

from statewise.client import Client
from statewise.service import ServiceError
from statewise.service.dataplane import ExpectedSessions
from statewise.service.testing import server_in_thread
from statewise.v1 import admin_pb2, admin_pb2_grpc
from statewise.wire import Reason

X = np.ones((3, 3), np.float32)


async def _in_store(server: StoredServer, *ids: str, owner: str = "ann") -> list[bool]:
    return [birth != 0 for birth in server.store.find(owner, ids)]


async def test_a_sleeping_session_is_closed_by_its_handle(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b", "c")
        await server.step(handles["b"], 0, X)
        await server.sleep(handles["c"])
        assert await server.close(*handles.values()) == []
        assert await _in_store(server, "a", "b", "c") == [False] * 3
        assert await server.close(*handles.values(), 12345) == []
        _, failures = await server.dataplane.sessions.resume(["a", "c"], owner="ann")
        assert [failure.reason for failure in failures] == [Reason.SESSION_NOT_FOUND] * 2
        assert await server.listed() == []


async def test_nobody_closes_sessions_of_others(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.sleep()
        assert await server.close(*handles.values(), owner="bob") == []
        with pytest.raises(ServiceError, match="no session 'a' is open"):
            await server.dataplane.session_administration.close("a", owner="bob")
        assert await _in_store(server, "a", "b") == [True, True]


async def test_handles_from_before_a_restart_close_what_they_opened(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.stored.settle()
    async with serving(repository, open_store) as server:
        await server.resume("b")
        assert await server.close(*handles.values()) == []
        assert names_of(await server.listed()) == ["b"]


async def test_a_handle_from_before_a_resumption_closes_nothing(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        opened, _ = await server.dataplane.sessions.open("steps", 0, ["a"], owner="ann", births=[7])
        await server.sleep()
        same_holder = ExpectedSessions([7], [7])  # for whom the new handle need not be stored at once
        await server.dataplane.sessions.resume(["a"], owner="ann", expected=same_holder)
        (moved,) = await server.close(5, opened[0].view.handle)
        assert (moved.row, moved.reason) == (1, Reason.SESSION_MOVED)
        assert names_of(await server.listed()) == ["a"]


async def test_a_session_is_closed_by_its_id_wherever_it_is(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server, serving(repository, open_store) as other:
        handles = await server.open("awake", "asleep", "elsewhere", "taken", "new")
        await server.sleep(*(handles[name] for name in ("awake", "taken", "new")))
        await other.resume("elsewhere")
        taken = await other.resume("taken")
        await server.open("newest")
        administration = server.dataplane.session_administration
        for name in (*handles, "newest"):
            await administration.close(name, owner="ann")
            with pytest.raises(ServiceError, match="no session"):
                await administration.close(name, owner="ann")
        assert server.store.usage("ann").sessions == 0
        await other.step(taken["taken"], 0, X)
        await other.stored.settle()
        assert server.store.usage("ann").sessions == 0
        refused = await other.step(taken["taken"], 3, X)
        assert [failure.reason for failure in refused.failures] == [Reason.SESSION_MOVED]


async def test_guesses_are_looked_up_a_bounded_number_of_times(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        administration = server.dataplane.session_administration
        (handle,) = (await server.open("a")).values()
        await server.sleep()
        assert await server.close(*range(1, 65_537), owner="bob") == []
        for guess in (
            server.close(5, owner="bob"),
            administration.get("a", owner="bob"),
            administration.close("a", owner="bob"),
        ):
            with pytest.raises(ServiceError) as refused:
                await guess
            assert refused.value.reason is Reason.QUEUE_FULL
        assert await server.close(handle) == []
        assert not any(await _in_store(server, "a"))
        server.now_s += 1
        assert await server.close(5, owner="bob") == []


async def test_a_session_that_wakes_while_it_is_closed_is_closed(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a")
        await server.step(handles["a"], 0, X)
        await server.sleep()
        server.store.entered.clear()
        server.store.may_go_on.clear()
        stepping = asyncio.create_task(server.step(handles["a"], 3, X))
        await asyncio.to_thread(server.store.entered.wait)
        closing = asyncio.create_task(server.close(handles["a"]))
        for _ in range(3):
            await asyncio.sleep(0)
        server.store.may_go_on.set()
        assert not (await stepping).failures
        assert await closing == []
        assert not any(await _in_store(server, "a"))


async def test_a_session_that_another_server_has_is_not_told_as_closed(
    repository: Path, open_store: Open
) -> None:
    """Also where a tick learns of it before the close waits for the store."""
    async with serving(repository, open_store) as stale, serving(repository, open_store) as taker:
        handles = await stale.open("a", "b")
        await stale.sleep()
        await stale.step(handles["a"], 0, X)
        await stale.stored.settle()
        await taker.resume("a")
        stale.store.entered.clear()
        stale.store.may_go_on.clear()
        closing = asyncio.create_task(stale.close(handles["a"], handles["b"]))
        await asyncio.to_thread(stale.store.entered.wait)  # `a` has ended in memory, and `b` is looked up
        ticking = asyncio.create_task(stale.stored.checkpoints.tick())
        for _ in range(3):
            await asyncio.sleep(0)
        stale.store.may_go_on.set()
        assert await ticking
        assert [(one.row, one.reason) for one in await closing] == [(0, "SESSION_MOVED")]
        assert await _in_store(taker, "a", "b") == [True, False]


async def test_a_close_says_that_the_store_is_away(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.sleep()
        server.store.refused = {"end"}
        with pytest.raises(ServiceError, match="store does not answer"):
            await server.close(handles["a"])
        with pytest.raises(ServiceError, match="store does not answer"):
            await server.dataplane.session_administration.close("b", owner="ann")
        server.store.refused = set()
        assert await _in_store(server, "a", "b") == [True, True]
        assert await server.close(handles["a"]) == []


def test_a_damaged_session_is_listed_and_closed(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with server_in_thread(repository, store=f"sqlite:{path}") as address, Client(address) as client:
        client.session("steps", id="a").step(X)
    for log in tmp_path.glob("sessions.db-log-*"):
        data = bytearray(log.read_bytes())
        data[16:] = bytes(len(data) - 16)
        log.write_bytes(data)
    with server_in_thread(repository, store=f"sqlite:{path}") as address, Client(address) as client:
        (damaged,) = client.list_sessions()
        assert (damaged.id, damaged.state, damaged.damaged) == ("a", "asleep", True)
        admin = admin_pb2_grpc.AdminServiceStub(grpc.insecure_channel(address))
        seen = admin.GetSession(admin_pb2.GetSessionRequest(session_id="a"))
        assert (seen.session.session_id, seen.session.damaged) == ("a", True)
        admin.CloseSession(admin_pb2.CloseSessionRequest(session_id="a"))
        assert client.list_sessions() == []
        with client.session("steps", id="a") as again:
            assert again.position == 0
