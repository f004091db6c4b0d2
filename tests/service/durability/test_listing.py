"""Lists sessions that are awake, asleep or new, page by page, while they wake and fall asleep."""

import asyncio
import random as stdlib_random
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.caller import connect
from tests.service.durability.stored_server import StoredServer, names_of, serving
from tests.service.stores.places import Open

from statewise.service import ServiceError
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2 as ap
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import Reason

X = np.ones((3, 3), np.float32)


async def test_a_sleeping_session_is_listed_as_it_was_left(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.step(handles["a"], 0, X)
        await server.sleep(handles["b"])
        a, b = await server.listed()
        assert (a.session_id, a.owner, a.model, a.version) == ("a", "ann", "steps", 2)
        assert (a.position, a.durable_position, a.state, a.damaged) == (3, 3, "asleep", False)
        assert 0 <= a.idle_s < 1e6
        assert (b.session_id, b.position, b.state) == ("b", 0, "awake")
        seen = await server.dataplane.session_administration.get("a", owner="ann")
        assert (seen.position, seen.state, seen.model) == (3, "asleep", "steps")
        assert len(server.dataplane.table) == 1
        with pytest.raises(ServiceError, match="no session 'a' is open"):
            await server.dataplane.session_administration.get("a", owner="bob")


async def test_sessions_of_one_owner_model_or_state(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        for owner in ("bob", "ann"):
            await server.open("1", "3", owner=owner)
            await server.open("2", owner=owner, model="last")
        await server.sleep()
        await server.resume("1")
        await server.open("4", owner="bob")  # the store does not have it yet
        assert names_of(await server.listed(size=2)) == ["1", "2", "3", "1", "2", "3", "4"]
        assert names_of(await server.listed(size=2, owner="bob")) == ["1", "2", "3", "4"]
        assert names_of(await server.listed(size=1, owner="ann", model="steps")) == ["1", "3"]
        assert names_of(await server.listed(size=1, model="last")) == ["2", "2"]
        assert names_of(await server.listed(size=3, state="asleep")) == ["2", "3", "1", "2", "3"]
        assert sorted(names_of(await server.listed(size=1, state="awake"))) == ["1", "4"]
        assert await server.listed(owner="eve") == []


@pytest.mark.parametrize("seed", range(4))
async def test_what_exists_throughout_a_listing_is_listed_once(
    repository: Path, open_store: Open, seed: int
) -> None:
    random = stdlib_random.Random(seed)
    async with serving(repository, open_store) as server:
        first = {f"{number:02}": 0 for number in random.sample(range(60), 40)}
        first.update(await server.open(*first))
        await server.sleep(*random.sample(list(first.values()), 20))
        open_now = {**first, **await server.open("new 1", "new 2", "34")}
        lasting, seen = set(first), list[str]()
        async for page in server.pages(size=7, owner="ann"):
            seen += names_of(page)
            await _disturb(server, random, open_now, lasting)
        assert sorted(set(seen)) == sorted(seen)
        assert lasting <= set(seen)


async def _disturb(
    server: StoredServer, random: stdlib_random.Random, open_now: dict[str, int], lasting: set[str]
) -> None:
    """Wakes sessions, opens and closes some, and lets the others fall asleep."""
    names = random.sample(sorted(open_now), 8)
    open_now.update(await server.resume(*names))
    for name in names[:2]:
        await server.close(open_now.pop(name))
        lasting.discard(name)
    opened = await server.open(f"{random.random():.3f}", f"x{random.random():.3f}")
    open_now.update(opened)
    awake = [open_now[name] for name in names[2:6]]
    if random.random() < 0.5:
        await server.sleep(*awake, *opened.values())


async def test_what_closes_during_a_listing_is_not_taken_for_a_sleeping_session(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b")
        await server.stored.settle()
        server.store.refused = {"write"}
        with pytest.raises(ServiceError, match="store does not answer"):
            await server.close(handles["b"])
        assert names_of(await server.listed(state="asleep")) == []  # the store still has it
        with pytest.raises(ServiceError, match="store does not answer"):
            await server.listed()
        server.store.refused = set()
        assert names_of(await server.listed()) == ["a"]


async def test_a_session_that_leaves_memory_as_soon_as_it_is_stored_is_listed(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store) as server:
        await server.open("a")
        server.store.entered.clear()
        server.store.may_go_on.clear()
        listing = asyncio.create_task(server.listed())
        await asyncio.to_thread(server.store.entered.wait)
        sleeping = asyncio.create_task(server.sleep())
        server.store.may_go_on.set()
        await sleeping
        assert names_of(await listing) == ["a"]


async def test_while_the_store_is_away_what_is_awake_can_be_listed(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store) as server:
        await server.open("a")
        server.store.refused = {"list_sessions", "find"}
        with pytest.raises(ServiceError, match="store does not answer"):
            await server.listed()
        with pytest.raises(ServiceError, match="store does not answer"):
            await server.dataplane.session_administration.get("b", owner="ann")
        assert names_of(await server.listed(state="awake")) == ["a"]
        assert (await server.dataplane.session_administration.get("a", owner="ann")).state == "awake"


async def test_sessions_that_make_room_for_each_other_are_listed_once(
    repository: Path, open_store: Open
) -> None:
    random = stdlib_random.Random(1)
    async with serving(repository, open_store, sessions=16, owner_sessions=50) as server:
        handles: dict[str, int] = {}
        for number in range(40):
            server.now_s += 1
            handles.update(await server.open(f"{number * 7 % 40:02}"))
        server.now_s += 1
        _, (refused,) = await server.dataplane.sessions.open(
            "steps", 0, [*(f"new {number}" for number in range(11))], owner="ann"
        )
        assert refused.reason is Reason.SESSION_LIMIT
        positions = dict.fromkeys(handles, 0)
        seen: list[str] = []
        async for page in server.pages(size=3, owner="ann"):
            seen += names_of(page)
            for name in random.sample(sorted(handles), 9):
                server.now_s += 1
                assert not (await server.step(handles[name], positions[name], X)).failures
                positions[name] += len(X)
        assert sorted(set(seen)) == sorted(seen)
        assert len(seen) == 50
        listed = {one.session_id: one.position for one in await server.listed()}
        assert positions.items() <= listed.items()
        assert len(await server.listed(state="awake")) == len(server.dataplane.table) <= 16
        assert len(await server.listed(state="asleep")) == 50 - len(server.dataplane.table)


async def test_a_session_that_another_server_took_over_is_asleep_here(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store) as one, serving(repository, open_store) as other:
        handles = await one.open("a", "b")
        await one.stored.settle()
        taken = await other.resume("a")
        await other.step(taken["a"], 0, X)
        await other.stored.settle()
        assert [(seen.position, seen.state) for seen in await one.listed()] == [(3, "asleep"), (0, "awake")]
        assert [(seen.position, seen.state) for seen in await other.listed()] == [(3, "awake"), (0, "asleep")]
        await other.close(taken["a"])
        assert names_of(await one.listed()) == ["b"]
        assert handles["b"]


async def test_tokens_of_another_listing_are_refused(repository: Path, open_store: Open) -> None:
    async with serving(repository, open_store) as server:
        listing = server.dataplane.session_administration.listing
        with pytest.raises(ServiceError, match="page_token"):
            await listing.page(owner=None, start=3, size=3, model="")
        with pytest.raises(ServiceError, match="page_token"):
            await listing.page(owner=None, start=("a", "b"), size=3, model="", state="awake")


async def test_callers_see_sleeping_sessions_after_a_restart(repository: Path, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'sessions.db'}"
    async with running_server(repository, store=store) as address, connect(address) as caller:
        await caller.open("steps", "a", "b", "c")
    async with running_server(repository, store=store) as address, connect(address) as caller:
        await caller.ask(resume=sp.ResumeSessionsRequest(session_ids=["b"]))
        seen: list[tuple[str, int]] = []
        token, pages = "", 0
        while pages == 0 or token:
            request = ap.ListSessionsRequest(page_size=2, page_token=token)
            page = await caller.admin.ListSessions(request)
            seen += [(one.session_id, one.state) for one in page.sessions]
            token, pages = page.next_page_token, pages + 1
        asleep, awake = ap.SESSION_STATE_ASLEEP, ap.SESSION_STATE_AWAKE
        assert seen == [("a", asleep), ("b", awake), ("c", asleep)]
        page = await caller.admin.ListSessions(ap.ListSessionsRequest(state=awake))
        assert [one.session_id for one in page.sessions] == ["b"]
        found = await caller.admin.GetSession(ap.GetSessionRequest(session_id="c"))
        assert found.session.state == asleep
