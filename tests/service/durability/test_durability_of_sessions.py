"""Opens sessions with a durability of their own: replies wait for the store, or not, as each asks."""

from pathlib import Path

import numpy as np
import pytest
from tests.helpers.caller import connect
from tests.helpers.errors import info_in
from tests.service.durability.stored_server import serving, stepping
from tests.service.stores.places import Open

from statewise.service.dataplane import ExpectedSessions
from statewise.service.session_state import Durability
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2

OF_SERVER, INTERVAL, REPLY = Durability


@pytest.mark.parametrize(
    ("server", "chosen", "waits"),
    [
        ("interval", [OF_SERVER], False),
        ("interval", [INTERVAL], False),
        ("interval", [REPLY], True),
        ("interval", [INTERVAL, OF_SERVER, REPLY], True),
        ("reply", [OF_SERVER], True),
        ("reply", [INTERVAL], False),
        ("reply", [INTERVAL, OF_SERVER], True),
    ],
)
async def test_a_reply_waits_if_a_session_of_it_asks(
    repository: Path,
    open_store: Open,
    random: np.random.Generator,
    server: str,
    chosen: list[Durability],
    *,
    waits: bool,
) -> None:
    x = random.standard_normal((len(chosen), 3)).astype(np.float32)
    async with serving(repository, open_store, durability=server) as one:
        handles = [
            (await one.open(f"{number}", durability=durability))[f"{number}"]
            for number, durability in enumerate(chosen)
        ]
        asked = stepping(one, handles, 0, [1] * len(handles), x)
        await one.dataplane.sessions.snapshot(np.array(handles, np.uint64), owner="ann")  # has its turn later
        assert asked.done() is not waits
        assert await one.stored.checkpoints.tick()
        result = await asked
        assert result.durable_positions is not None
        assert result.durable_positions.tolist() == [1 if waits else 0] * len(handles)


async def test_a_durability_is_kept_by_the_store_and_by_copies_and_can_be_changed(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store) as one, serving(repository, open_store) as other:
        handle = (await one.open("a", durability=REPLY))["a"]
        (copy,), _ = await one.dataplane.sessions.fork(np.array([handle], np.uint64), ["b"], owner="ann")
        assert copy.view.durability == REPLY
        (again,), _ = await one.dataplane.sessions.open("steps", 0, ["a"], owner="ann")
        assert again.view.durability == REPLY

        resumed, _ = await other.dataplane.sessions.resume(["a", "b"], owner="ann")
        assert [session.view.durability for session in resumed] == [REPLY, REPLY]
        expected = ExpectedSessions(durability=INTERVAL)
        (changed,), _ = await other.dataplane.sessions.resume(["a"], owner="ann", expected=expected)
        assert changed.view.durability == INTERVAL
        (back,), _ = await one.dataplane.sessions.resume(["a"], owner="ann")
        assert back.view.durability == INTERVAL
        assert (await one.close(back.view.handle)) == []
        (fresh,), _ = await one.dataplane.sessions.open("steps", 0, ["c"], owner="ann")
        assert fresh.view.durability == OF_SERVER  # the slot's last session had another


async def test_a_durability_that_no_session_can_have_is_refused(repository: Path) -> None:
    async with running_server(repository) as address, connect(address) as caller:
        for number, words in ((2, "this server has none"), (3, "expected a value of the enum Durability")):
            durability = sequence_pb2.Durability.ValueType(number)
            for request in (
                {"open": sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["a"])},
                {"resume": sequence_pb2.ResumeSessionsRequest(session_ids=["a"])},
            ):
                (message,) = request.values()
                message.durability = durability
                refused = await caller.ask(**request)
                assert info_in(refused).reason == "BAD_REQUEST"
                assert words in refused.message
