"""Begins sessions, groups, predictions and generations in states that the caller gives."""

from typing import Any

import numpy as np
import pytest
from tests.client.samples import sequences
from tests.helpers.arrays import Array, Floats
from tests.helpers.models.small import HIDDEN, SmallModels

from statewise.client import Client, InvalidInput, NotStreamable, PartialFailure

S = 2 * HIDDEN


def states(rows: int, seed: int = 3) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, S)).astype(np.float32)


def test_a_session_begins_in_a_state_and_counts_from_its_position(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    state = small_models.find("steps").run(x[:6])[1]
    with client.session("steps", state={"state": state}, position=6) as session:
        assert session.position == 6
        np.testing.assert_array_equal(session.step(x[6:]), small_models.find("steps").run(x)[0][6:])
        assert session.position == len(x)


def test_a_model_tells_its_states_and_their_parts(client: Client, writers: Client) -> None:
    (state,) = client.model("steps").states
    assert (state.name, state.dtype, state.shape, state.parts) == ("state", "float32", (S,), ())
    (state,) = writers.model("letters").states
    assert [(part.name, part.offset, part.size) for part in state.parts] == [
        ("layer0.h", 0, 11),
        ("layer0.c", 11, 11),
        ("layer1.h", 22, 11),
        ("layer1.c", 33, 11),
    ]
    assert client.model("both").states == ()


def test_parts_that_are_not_given_begin_as_the_model_does(writers: Client, letters: Array) -> None:
    part = np.linspace(-1, 1, 11, dtype=np.float32)
    whole = np.zeros(44, np.float32)
    whole[11:22] = part
    with (
        writers.session("letters", state={"layer0.c": part}) as by_part,
        writers.session("letters", state={"state": whole}) as by_name,
        writers.session("letters") as plain,
    ):
        outputs = [session.step(letters) for session in (by_part, by_name, plain)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_a_group_begins_in_one_state_or_each_in_its_own(client: Client, small_models: SmallModels) -> None:
    batch = np.stack(sequences(5, 5, 5))
    given = states(3)
    oracle = small_models.find("steps")
    with client.sessions("steps", count=3, state={"state": given}, position=[4, 0, 9]) as group:
        np.testing.assert_array_equal(group.positions, [4, 0, 9])
        for row, output in enumerate(group.step(batch)):
            np.testing.assert_array_equal(output, oracle.run(batch[row], given[row])[0])
    with client.sessions("steps", count=3, state={"state": given[0]}, position=7) as group:
        np.testing.assert_array_equal(group.positions, [7] * 3)
        for row, output in enumerate(group.step(batch)):
            np.testing.assert_array_equal(output, oracle.run(batch[row], given[0])[0])


def test_predict_begins_in_one_state_or_each_sequence_in_its_own(
    client: Client, small_models: SmallModels
) -> None:
    rows, oracle = sequences(5, 2, 9), small_models.find("steps")
    given = states(3)
    for row, output in enumerate(client.predict("steps", rows, state={"state": given})):
        np.testing.assert_array_equal(output, oracle.run(rows[row], given[row])[0])
    for row, output in enumerate(client.predict("steps", rows, state={"state": given[1]})):
        np.testing.assert_array_equal(output, oracle.run(rows[row], given[1])[0])
    one = client.predict("steps", rows[0], state={"state": given[2].tolist()})
    np.testing.assert_array_equal(one, oracle.run(rows[0], given[2])[0])
    assert client.predict("steps", rows[:1], state={"state": given[:1]})[0].shape == (5, 2)


def test_more_states_than_a_request_takes(clients: Any, repository: Any, small_models: SmallModels) -> None:
    rows, given, oracle = sequences(*[3] * 2000), states(2000), small_models.find("steps")
    client = clients.serve(repository, message_bytes=64 * 1024)
    outputs = client.predict("steps", rows, state={"state": given})
    for row in (0, 570, 1201, 1999):
        np.testing.assert_array_equal(outputs[row], oracle.run(rows[row], given[row])[0])
    with client.sessions("steps", count=2000, state={"state": given}) as group:
        outputs = group.step(np.stack(rows))
    for row in (0, 570, 1201, 1999):
        np.testing.assert_array_equal(outputs[row], oracle.run(rows[row], given[row])[0])


def test_a_row_whose_state_is_not_finite_fails_alone(client: Client) -> None:
    given = states(3)
    given[1, 5] = np.nan
    expected = r"state 'state': expected finite numbers; got nan at element \[5\]"
    with pytest.raises(PartialFailure, match=expected) as caught:
        client.predict("steps", sequences(3, 3, 3), state={"state": given})
    assert list(caught.value.errors) == [1]
    assert isinstance(caught.value.errors[1], InvalidInput)
    with pytest.raises(PartialFailure, match=expected) as caught:
        client.sessions("steps", count=3, state={"state": given}).step(np.zeros((3, 3)))
    assert list(caught.value.errors) == [1]
    with pytest.raises(InvalidInput, match=expected):
        client.session("steps", state={"state": given[1]}).step(np.zeros(3))


@pytest.mark.parametrize("model", ["chatter", "chatter_outside"])
def test_a_generation_goes_on_from_a_state_and_its_position(writers: Client, model: str) -> None:
    (first, *_) = writers.model(model).states
    state = np.linspace(-1, 1, first.size, dtype=np.float32).reshape(first.shape)
    given: dict[str, Any] = {"state": {first.name: state}, "position": 5}
    if model == "chatter_outside":
        given["state"]["last"] = np.eye(7, dtype=np.float32)[3]
    options: dict[str, Any] = {"steps": 20, "temperature": 0.7, "seed": 3, "text": False}
    with writers.session(model, **given) as session:
        expected = [int(token) for token in session.generate(**options)]
    assert [int(token) for token in writers.generate(model, **given, **options)] == expected
    elsewhere = writers.generate(model, **(given | {"position": 6}), **options)
    assert [int(token) for token in elsewhere] != expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"h": [0.0]}, r"state: expected names of model 'steps', 'state'; got 'h'"),
        ({"state": [0.0]}, r"expected float32 \[16\]; got float32 of shape \[1\]"),
        ({"state": np.zeros((1, S))}, r"expected float32 \[16\]; got float32 of shape \[1, 16\]"),
        ({"state": [[0.0], 1.0]}, r"expected float32 \[16\]; got a list of no regular shape"),
        ({"state": ["a"] * S}, "expected numbers; got text"),
        ({"state": [0.0] * 15 + [1e300]}, r"numbers that float32 holds; got 1e\+300 at element \[15\]"),
        ({}, "expected a dict of arrays"),
        ([0.0], "expected a dict of arrays"),
    ],
)
def test_what_is_no_state_is_refused_before_it_is_sent(client: Client, state: Any, expected: str) -> None:
    before = len(client.list_sessions())
    with pytest.raises(InvalidInput, match=expected):
        client.session("steps", state=state).step(np.zeros(3))
    with pytest.raises(InvalidInput, match=expected):
        client.predict("steps", np.zeros((2, 3)), state=state)
    assert len(client.list_sessions()) == before


def test_states_of_several_rows_name_both_shapes(client: Client) -> None:
    with pytest.raises(
        InvalidInput, match=r"expected float32 \[16\], or \[3, 16\], one for each; got .*\[2, 16\]"
    ):
        client.sessions("steps", count=3, state={"state": states(2)}).step(np.zeros((3, 3)))
    with pytest.raises(
        InvalidInput, match=r"expected float32 \[16\], or \[2, 16\], one for each; got .*\[3, 16\]"
    ):
        client.predict("steps", sequences(2, 2), state={"state": states(3)})


def test_a_state_whole_and_by_part_is_refused(writers: Client) -> None:
    state = {"state": np.zeros(44), "layer1.c": np.zeros(11)}
    with pytest.raises(
        InvalidInput, match=r"expected 'state' whole or by its parts; got both, with 'layer1.c'"
    ):
        writers.session("letters", state=state).step(1)


def test_a_position_needs_a_state(client: Client) -> None:
    with pytest.raises(InvalidInput, match=r"position: expected 0 without state=: .*; got 4"):
        client.session("steps", position=4).step(np.zeros(3))
    with pytest.raises(InvalidInput, match="position: expected 0 without state="):
        client.sessions("steps", count=2, position=[0, 4]).step(np.zeros((2, 3)))
    with pytest.raises(InvalidInput, match="position: expected a whole number, or 2 of them; got"):
        client.sessions("steps", count=2, state={"state": states(1)[0]}, position=[1, 2, 3]).step([])


def test_a_model_without_state_takes_none(client: Client) -> None:
    with pytest.raises((InvalidInput, NotStreamable), match="keeps no state"):
        client.session("both", state={"state": np.zeros(S)}).step(np.zeros(3))
    with pytest.raises(InvalidInput, match="expected None, as model 'both' keeps no state"):
        client.predict("both", np.zeros((2, 3)), state={"state": np.zeros(S)})


def test_the_state_of_an_encoder_decoder_takes_the_place_of_its_condition(writers: Client) -> None:
    state = {spec.name: np.full(spec.shape, 0.25, np.float32) for spec in writers.model("speech").states}
    with writers.session("speech", state=state) as first, writers.session("speech", state=state) as second:
        np.testing.assert_array_equal(first.step(7), second.step(7))
    with pytest.raises(InvalidInput, match="state: expected None with condition="):
        writers.session("speech", condition="pqr", state=state).step(7)


def test_a_state_is_that_of_the_moment_of_the_call(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    state = states(1)[0]
    given = state.copy()
    with client.session("steps", state={"state": given}) as session:
        given[:] = 0
        np.testing.assert_array_equal(session.step(x), small_models.find("steps").run(x, state)[0])
