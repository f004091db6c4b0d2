"""Reads the states of many sessions as one matrix, awake and asleep, without waking any."""

from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.samples import sequences
from tests.helpers.arrays import Array
from tests.helpers.models.small import HIDDEN, SmallModels

from statewise.client import Client, InvalidInput, ModelNotFound

S = 2 * HIDDEN


def test_states_of_all_sessions_or_of_some(
    repository: Path, clients: Clients, small_models: SmallModels
) -> None:
    client = clients.serve(repository)
    none = client.states("steps").matrix
    assert (none.shape, none.dtype.name) == ((0, S), "float32")
    rows = sequences(1, 4, 9)
    for number, row in enumerate(rows):
        client.session("steps", id=f"sensor-{number}").step(row)
    client.session("last", id="other").step(rows[0])
    expected = {f"sensor-{n}": small_models.find("steps").run(row)[1] for n, row in enumerate(rows)}
    states = client.states("steps")
    assert (states.model, states.version, len(states)) == ("steps", 2, 3)
    assert sorted(states.ids) == sorted(expected)
    for session_id, position, state in zip(states.ids, states.positions, states.matrix, strict=True):
        np.testing.assert_array_equal(state, expected[session_id])
        assert position == len(rows[int(session_id[-1])])
    assert repr(states) == f"<States of 3 sessions of steps/2, float32 [3, {S}]>"
    chosen = client.states("steps", ["sensor-2", "nobody", "sensor-0", "other"])
    assert chosen.ids == ("sensor-2", "sensor-0")
    assert chosen.positions.tolist() == [9, 1]
    np.testing.assert_array_equal(chosen.matrix, [expected["sensor-2"], expected["sensor-0"]])
    assert client.states("steps", version=1).ids == ()
    assert chosen.columns[3] == "state[3]"


def test_columns_are_named_by_part(writers: Client, letters: Array) -> None:
    with writers.session("letters") as session:
        session.step(letters)
        states = writers.states("letters", [session.id])
        assert len(states.columns) == 44
        assert states.columns[:2] + states.columns[-1:] == ("layer0.h[0]", "layer0.h[1]", "layer1.c[10]")
        whole = np.concatenate(list(session.state().values()))
        np.testing.assert_array_equal(states.matrix, [whole])


def test_more_states_than_a_message_holds(repository: Path, clients: Clients) -> None:
    client = clients.serve(repository, message_bytes=64 * 1024)
    batch = np.random.default_rng(5).standard_normal((3000, 3)).astype(np.float32)
    with client.sessions("steps", count=3000) as group:
        group.step(batch)
        expected = dict(zip(group.ids, group.state()["state"], strict=True))
        states = client.states("steps")
        assert sorted(states.ids) == sorted(group.ids)
        np.testing.assert_array_equal(states.matrix, [expected[session_id] for session_id in states.ids])
        np.testing.assert_array_equal(client.states("steps", group.ids).matrix, list(expected.values()))


def test_what_has_no_matrix(client: Client) -> None:
    with pytest.raises(InvalidInput, match="model 'both' keeps no state"):
        client.states("both")
    with pytest.raises(ModelNotFound):
        client.states("nothing")
    with pytest.raises(InvalidInput, match="ids: expected at least one"):
        client.states("steps", [])
