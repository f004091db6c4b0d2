"""Reads and writes the states of sessions and groups: what is read goes on, wherever it is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.restarts import RestartableServer
from tests.client.samples import sequences
from tests.helpers.arrays import Array, Floats
from tests.helpers.models.small import HIDDEN, SmallModels

from statewise.client import Client, InvalidInput, PartialFailure, SessionMoved

S = 2 * HIDDEN


def test_a_state_is_read_by_part_and_goes_on_elsewhere(writers: Client, letters: Array) -> None:
    with writers.session("letters") as session:
        session.step(letters[:5])
        state = session.state()
        assert {name: array.shape for name, array in state.items()} == dict.fromkeys(
            ("layer0.h", "layer0.c", "layer1.h", "layer1.c"), (11,)
        )
        expected = session.step(letters[5:])
        with writers.session("letters", state=state, position=5) as other:
            np.testing.assert_array_equal(other.step(letters[5:]), expected)
        session.set_state(state, position=5)
        assert session.position == 5
        np.testing.assert_array_equal(session.step(letters[5:]), expected)


def test_a_state_without_parts_is_read_whole(client: Client, small_models: SmallModels, x: Floats) -> None:
    with client.session("steps") as session:
        session.step(x[:7])
        state = session.state()
        assert list(state) == ["state"]
        np.testing.assert_array_equal(state["state"], small_models.find("steps").run(x[:7])[1])
        state["state"][:] = 0  # the caller's own
        assert session.position == 7
        np.testing.assert_array_equal(session.step(x[7:]), small_models.find("steps").run(x)[0][7:])


@pytest.mark.parametrize("model", ["chatter", "chatter_outside", "wave", "speech"])
def test_a_generation_goes_on_from_what_was_read(writers: Client, model: str) -> None:
    start: dict[str, Any] = {"condition": "pqr"} if model == "speech" else {}
    with writers.session(model, **start) as session:
        session.step(np.full(3, 0.5) if model == "wave" else 2)
        state, position = session.state(), session.position
        expected = list(session.generate(steps=9, seed=4, text=False))
        with writers.session(model, state=state, position=position) as other:
            np.testing.assert_array_equal(list(other.generate(steps=9, seed=4, text=False)), expected)
    alone = writers.generate(model, state=state, position=position, steps=9, seed=4, text=False)
    np.testing.assert_array_equal(list(alone), expected)


def test_parts_that_are_not_written_stay(writers: Client, letters: Array) -> None:
    with writers.session("letters") as session:
        session.step(letters[:5])
        before = session.state()
        session.set_state({"layer1.h": np.ones(11)})
        after = session.state()
        assert session.position == 5
        np.testing.assert_array_equal(after.pop("layer1.h"), np.ones(11))
        for name, array in after.items():
            np.testing.assert_array_equal(array, before[name])


def test_nothing_can_be_undone_past_a_written_state(client: Client, x: Floats) -> None:
    with client.session("steps") as session:
        session.step(x[:3])
        session.set_state({"state": np.zeros(S)}, position=40)
        with pytest.raises(InvalidInput, match="expected a step or generation to undo"):
            session.rewind()
        outputs = session.step(x[:3])
        assert session.position == 43
        session.rewind()
        assert session.position == 40
        np.testing.assert_array_equal(session.step(x[:3]), outputs)


def test_a_number_that_is_not_finite_is_not_written(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("steps") as session:
        session.step(x[:3])
        with pytest.raises(
            InvalidInput, match=r"state 'state': expected finite numbers; got inf at element \[2\]"
        ):
            session.set_state({"state": [0.0, 0.0, np.inf] + [0.0] * 13})
        np.testing.assert_array_equal(session.step(x[3:]), small_models.find("steps").run(x)[0][3:])


def test_a_number_that_is_not_finite_is_named_by_its_part(writers: Client) -> None:
    session = writers.session("letters")
    with session, pytest.raises(InvalidInput, match=r"got nan at element \[\d+\], layer1\.h\[3\]"):
        session.set_state({"layer1.h": [0.0] * 3 + [np.nan] + [0.0] * 7})


def test_a_server_that_lost_the_session_gets_it_back_from_the_state(
    repository: Path, clients: Clients, small_models: SmallModels, x: Floats
) -> None:
    state = small_models.find("steps").run(x[:4])[1]
    whole = small_models.find("steps").run(x)[0]
    with RestartableServer(repository) as server:
        client = clients.connect(server.address)
        given = client.session("steps", state={"state": state}, position=4, keep=True)
        given.step(x[4:6])
        written = client.session("steps", keep=True)
        written.step(-x)
        written.set_state({"state": state}, position=4)
        idle = client.session("steps", keep=True)
        idle.set_state({"state": state}, position=4)
        server.restart()
        np.testing.assert_array_equal(given.step(x[6:]), whole[6:])
        written.step(x[4])
        server.restart()
        np.testing.assert_array_equal(written.step(x[5:]), whole[5:])
        np.testing.assert_array_equal(idle.step(x[4:]), whole[4:])
        server.restart()
        written.set_state({"state": state}, position=4)
        np.testing.assert_array_equal(written.step(x[4:]), whole[4:])


def test_groups_read_and_write_all_states_or_some(client: Client, small_models: SmallModels) -> None:
    batch, oracle = np.stack(sequences(6, 6, 6)), small_models.find("steps")
    with client.sessions("steps", count=3) as group:
        outputs = group.step(batch)
        states = group.state()["state"]
        for row in range(3):
            np.testing.assert_array_equal(states[row], oracle.run(batch[row])[1])
        np.testing.assert_array_equal(group.state(index=[2, 0])["state"], states[[2, 0]])
        group.set_state({"state": states[::-1]}, position=[1, 2, 3])
        assert group.positions.tolist() == [1, 2, 3]
        np.testing.assert_array_equal(group.state()["state"], states[::-1])
        group.set_state({"state": np.zeros(S)}, position=0, index=[1])
        assert group.positions.tolist() == [1, 0, 3]
        np.testing.assert_array_equal(group.step(batch[[1]], index=[1]), outputs[[1]])
        group.rewind(index=[1])
        assert group.positions.tolist() == [1, 0, 3]


def test_parts_of_a_groups_states_that_are_not_written_stay(writers: Client, letters: Array) -> None:
    with writers.sessions("letters", count=2) as group:
        group.step(letters[:10].reshape(2, 5))
        before = group.state()
        assert before["layer1.c"].shape == (2, 11)
        group.set_state({"layer1.h": np.ones((2, 11))})
        after = group.state()
        np.testing.assert_array_equal(after.pop("layer1.h"), np.ones((2, 11)))
        for name, array in after.items():
            np.testing.assert_array_equal(array, before[name])


def test_a_groups_server_that_lost_it_gets_it_back_from_the_states(
    repository: Path, clients: Clients, small_models: SmallModels
) -> None:
    batch, oracle = np.stack(sequences(9, 9, 9)), small_models.find("steps")
    states = np.stack([oracle.run(row[:4])[1] for row in batch])
    expected = np.stack([oracle.run(row)[0] for row in batch])
    with RestartableServer(repository) as server:
        client = clients.connect(server.address)
        group = client.sessions("steps", count=3, state={"state": states}, position=4, keep=True)
        group.step(batch[:, 4])
        server.restart()
        np.testing.assert_array_equal(group.step(batch[:, 5]), expected[:, 5])
        group.step(batch[:2, 6], index=[0, 1])
        group.set_state({"state": states[:2]}, position=4, index=[0, 1])
        group.step(batch[:2, 4], index=[0, 1])
        server.restart()
        np.testing.assert_array_equal(group.step(batch[:2, 5], index=[0, 1]), expected[:2, 5])
        np.testing.assert_array_equal(group.step(batch[2:, 6], index=[2]), expected[2:, 6])
        group.set_state({"state": states}, position=4)
        server.restart()
        np.testing.assert_array_equal(group.step(batch[:, 4:]), expected[:, 4:])


def test_a_session_that_moved_fails_alone(client: Client, clients: Clients, address: str) -> None:
    with client.sessions("steps", ids=["first", "second"]) as group:
        taken = clients.connect(address).resume("second")
        with pytest.raises(PartialFailure) as caught:
            group.set_state({"state": np.ones(S)}, position=3)
        assert list(caught.value.errors) == [1]
        assert isinstance(caught.value.errors[1], SessionMoved)
        assert group.positions.tolist() == [3, 0]
        with pytest.raises(PartialFailure) as caught:
            group.state()
        np.testing.assert_array_equal(caught.value.outputs[0]["state"], np.ones((1, S)))
        taken.close()
        client.resume("first").close()


def test_a_session_that_moved_leaves_parts_of_the_others_to_be_written(
    writers: Client, clients: Clients, writers_address: str, letters: Array
) -> None:
    with writers.sessions("letters", ids=["one", "two"]) as group:
        group.step(letters[:6].reshape(2, 3))
        before = group.state()
        taken = clients.connect(writers_address).resume("one")
        with pytest.raises(PartialFailure) as caught:
            group.set_state({"layer1.h": np.ones((2, 11))}, position=[5, 6])
        assert list(caught.value.errors) == [0]
        assert group.positions.tolist() == [3, 6]
        after = group.state(index=[1])
        np.testing.assert_array_equal(after["layer1.h"], np.ones((1, 11)))
        np.testing.assert_array_equal(after["layer0.c"], before["layer0.c"][[1]])
        taken.close()
        writers.resume("two").close()


def test_states_of_more_sessions_than_a_message_holds(
    repository: Path, clients: Clients, small_models: SmallModels
) -> None:
    client = clients.serve(repository, message_bytes=64 * 1024)
    batch = np.random.default_rng(5).standard_normal((2000, 3)).astype(np.float32)
    with client.sessions("steps", count=2000) as group:
        group.step(batch)
        states = group.state()["state"]
        for row in (0, 700, 1999):
            np.testing.assert_array_equal(
                states[row], small_models.find("steps").run(batch[row : row + 1])[1]
            )
        group.set_state({"state": states[::-1]})
        np.testing.assert_array_equal(group.state()["state"], states[::-1])
