"""Reads and writes states of sessions that sleep, and of sessions whose server is killed."""

from pathlib import Path
from typing import Any

import numpy as np
from tests.service.durability.stored_server import StoredServer, serving
from tests.service.stores.places import Open

from statewise.service.dataplane import InitialStates, given_states

Array = np.ndarray


async def _read(server: StoredServer, *handles: int) -> tuple[Array, list[int]]:
    read = await server.dataplane.session_states.read(np.array(handles, np.uint64), owner="ann")
    assert not read.failures
    return read.state["state"], read.positions.tolist()


async def _write(server: StoredServer, handle: int, position: int, state: Array, to: int) -> Any:
    written, failures = await server.dataplane.session_states.write(
        np.array([handle], np.uint64),
        np.array([position], np.uint64),
        {"state": state},
        np.array([to], np.uint64),
        owner="ann",
    )
    assert not failures
    return written[0].view


async def test_a_sleeping_session_wakes_to_be_read_and_to_be_written(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        await server.step(handle, 0, x[:4])
        before, _ = await _read(server, handle)
        await server.sleep()
        state, positions = await _read(server, handle)
        assert (state.tobytes(), positions) == (before.tobytes(), [4])
        await server.sleep()
        view = await _write(server, handle, 4, state + 1, 9)
        assert (view.position, view.epoch) == (9, 2)
        await server.sleep()
        state, positions = await _read(server, handle)
        assert (state.tobytes(), positions) == ((before + 1).tobytes(), [9])
        # The repetition of a write whose reply was lost, after the session has slept.
        assert (await _write(server, handle, 4, before + 1, 9)).epoch == 2


async def test_a_written_state_is_stored_before_the_reply(
    repository: Path, open_store: Open, x: Array, small_models: Any
) -> None:
    state = np.linspace(-1, 1, 16, dtype=np.float32)[None]
    async with serving(repository, open_store) as server:
        handle = (await server.open("a"))["a"]
        await server.step(handle, 0, x[:4])
        await _write(server, handle, 4, state, 7)
    async with serving(repository, open_store) as server:
        resumed = (await server.resume("a"))["a"]
        kept, positions = await _read(server, resumed)
        assert (kept.tobytes(), positions) == (state.tobytes(), [7])
        epoch = (await _write(server, resumed, 4, state, 7)).epoch
        assert (await _write(server, resumed, 4, state, 7)).epoch == epoch
        y = (await server.step(resumed, 7, x)).outputs["y"]
        assert y.tobytes() == small_models.find("steps").run(x, state[0])[0].tobytes()


async def test_a_session_that_began_in_a_given_state_is_stored_with_its_position(
    repository: Path, open_store: Open
) -> None:
    async with serving(repository, open_store) as server:
        model = server.dataplane.models.find("steps")
        given = given_states(model, {"state": np.ones((1, 16), np.float32)}, rows=1)
        assert given is not None
        initial = InitialStates.given(model, given, np.array([5], np.uint64))
        await server.open("a", initial=initial)
        await server.stored.settle()
    async with serving(repository, open_store) as server:
        state, positions = await _read(server, (await server.resume("a"))["a"])
        assert (state.tolist(), positions) == ([[1.0] * 16], [5])


async def test_states_are_shown_of_sessions_that_sleep_and_sleep_on(
    repository: Path, open_store: Open, x: Array
) -> None:
    async with serving(repository, open_store) as server:
        handles = await server.open("a", "b", "awake")
        for number, handle in enumerate(handles.values()):
            await server.step(handle, 0, x[: number + 1])
        read, _ = await _read(server, *handles.values())
        await server.sleep(handles["awake"])
        listing, table = server.dataplane.state_listing, server.dataplane.table
        model = server.dataplane.models.find("steps")
        for _ in range(2):
            matrix = await listing.of_ids(model, ["b", "awake", "none", "a"], owner="ann")
            assert list(matrix.session_ids) == ["b", "awake", "a"]
            assert matrix.states.tobytes() == read[[1, 2, 0]].tobytes()
            assert matrix.positions.tolist() == [2, 3, 1]
        page, following = await listing.page(model, owner="ann", start=None, size=2)
        rest, end = await listing.page(model, owner="ann", start=following, size=2)
        assert [*page.session_ids, *rest.session_ids] == ["a", "awake", "b"]
        assert np.concatenate([page.states, rest.states]).tobytes() == read[[0, 2, 1]].tobytes()
        assert end is None
        shown = await listing.one("a", owner="ann")
        assert shown.named["state"].tobytes() == read[0].tobytes()
        assert len(table) == 1
        # Nobody else's.
        assert not (await listing.of_ids(model, ["a", "b", "awake"], owner="bob")).session_ids
