"""Shows states to their owner: of one session, of sessions by id, and of all of a version, page by page."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import only_reason_of
from tests.helpers.models.foreign import MODELS
from tests.helpers.models.small import HIDDEN, SmallModels
from tests.helpers.states import read_states, write_request

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2 as ap
from statewise.wire import from_tensor, pack_uint64, unpack_uint64

S = 2 * HIDDEN


async def test_one_session_shows_its_state(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((5, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    await caller.step(handle, 0, x)
    shown = await caller.admin.GetSession(ap.GetSessionRequest(session_id="a", with_state=True))
    assert from_tensor(shown.state["state"]).tobytes() == small_models.find("steps").run(x)[1].tobytes()
    assert list(shown.state["state"].shape) == [S]
    assert not (await caller.admin.GetSession(ap.GetSessionRequest(session_id="a"))).state


async def test_states_by_id_are_in_the_order_of_the_ids(caller: Caller, random: np.random.Generator) -> None:
    handles = await caller.open("steps", "a", "b", "c")
    await caller.open("steps", "old", version=1)
    await caller.open("last", "other")
    states = random.standard_normal((3, S)).astype(np.float32)
    sessions = [(handle, 0) for handle in handles]
    await caller.ask(write_states=write_request(sessions, {"state": states}, new_positions=[3, 4, 5]))
    ids = ["c", "none", "a", "old", "other", "b"]
    shown = await caller.admin.GetStates(ap.GetStatesRequest(model="steps", session_ids=ids))
    assert list(shown.session_ids) == ["c", "a", "b"]
    assert unpack_uint64(shown.positions).tolist() == [5, 3, 4]
    assert from_tensor(shown.states).tobytes() == states[[2, 0, 1]].tobytes()
    assert not shown.next_page_token
    older = await caller.admin.GetStates(ap.GetStatesRequest(model="steps", version=1))
    assert list(older.session_ids) == ["old"]


async def test_pages_hold_every_session_once(caller: Caller, random: np.random.Generator) -> None:
    names = [f"s{number:04}" for number in range(300)]
    handles = await caller.open("steps", *names)
    states = random.standard_normal((300, S)).astype(np.float32)
    await caller.ask(write_states=write_request([(handle, 0) for handle in handles], {"state": states}))
    for size, pages in ((7, 43), (0, 1), (100_000, 1)):
        found: dict[str, bytes] = {}
        token, count = "", 0
        while token or not count:
            page = await caller.admin.GetStates(
                ap.GetStatesRequest(model="steps", page_size=size, page_token=token)
            )
            rows = from_tensor(page.states)
            assert len(rows) == len(page.session_ids) <= (size or 300)
            for name, row in zip(page.session_ids, rows, strict=True):
                assert name not in found
                found[name] = row.tobytes()
            token, count = page.next_page_token, count + 1
        assert count == pages
        assert found == {name: state.tobytes() for name, state in zip(names, states, strict=True)}


async def test_a_page_is_no_longer_than_a_message(repository: Path) -> None:
    async with running_server(repository, message_bytes=65_536) as address, connect(address) as caller:
        names = [f"s{number:04}" for number in range(400)]
        await caller.open("steps", *names)
        page = await caller.admin.GetStates(ap.GetStatesRequest(model="steps"))
        assert 0 < len(page.session_ids) < 400
        assert page.ByteSize() < 65_536
        with pytest.raises(grpc.aio.AioRpcError, match="as many states as a message holds") as refused:
            await caller.admin.GetStates(ap.GetStatesRequest(model="steps", session_ids=names))
        assert only_reason_of(refused.value) == "BYTES_LIMIT"


async def test_looking_is_no_use_and_changes_nothing(caller: Caller) -> None:
    (handle,) = await caller.open("steps", "a")
    before = await read_states(caller, handle)
    seen = [(await caller.admin.GetSession(ap.GetSessionRequest(session_id="a"))).session for _ in range(2)]
    await caller.admin.GetStates(ap.GetStatesRequest(model="steps"))
    after = (await caller.admin.GetSession(ap.GetSessionRequest(session_id="a", with_state=True))).session
    assert after.idle.ToNanoseconds() > seen[0].idle.ToNanoseconds()
    assert (await read_states(caller, handle)).bits() == before.bits()


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ap.GetStatesRequest(model="both"), "WRONG_CALL"),
        (ap.GetStatesRequest(model="none"), "MODEL_NOT_FOUND"),
        (ap.GetStatesRequest(model="steps", page_token="?"), "BAD_REQUEST"),
        (ap.GetStatesRequest(model="steps", session_ids=["a", "a"]), "BAD_REQUEST"),
    ],
)
async def test_what_cannot_be_shown(caller: Caller, request_: ap.GetStatesRequest, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.admin.GetStates(request_)
    assert only_reason_of(refused.value) == reason


async def test_states_of_different_types_share_a_matrix_that_holds_both(tmp_path: Path) -> None:
    MODELS["two_kinds"]().publish(tmp_path / "two_kinds" / "1")
    async with running_server(tmp_path) as address, connect(address) as caller:
        (handle,) = await caller.open("two_kinds", "a")
        read = await read_states(caller, handle)
        shown = await caller.admin.GetStates(ap.GetStatesRequest(model="two_kinds"))
        expected = np.concatenate([array[0].reshape(-1).astype(np.float64) for array in read.state.values()])
        rows = from_tensor(shown.states)
        assert rows.dtype == np.float64
        assert sorted(rows[0].tolist()) == sorted(expected.tolist())
        assert unpack_uint64(shown.positions).tobytes() == pack_uint64([0])
