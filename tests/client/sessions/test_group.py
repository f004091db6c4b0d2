"""Steps groups of sessions through both clients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.samples import sequences
from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModels

from statewise.client import (
    Client,
    InvalidInput,
    LimitReached,
    PartialFailure,
    SessionExists,
    SessionMoved,
)
from statewise.service.testing import server_in_thread


def test_one_step_each(client: Client, small_models: SmallModels) -> None:
    batch = np.stack(sequences(6, 6, 6, 6))
    with client.sessions("steps", count=4) as group:
        assert len(group) == 4
        outputs = np.stack([group.step(batch[:, step]) for step in range(6)], axis=1)
        np.testing.assert_array_equal(group.positions, [6] * 4)
    for row, output in zip(batch, outputs, strict=True):
        np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])


def test_several_steps_each_and_ragged(client: Client, small_models: SmallModels) -> None:
    rows = sequences(5, 2, 9)
    with client.sessions("steps", count=3) as group, client.sessions("last", count=3) as last:
        assert group.step(np.zeros((3, 4, 3))).shape == (3, 4, 2)
        assert last.step(np.zeros((3, 4, 3))).shape == (3, 2)
    with client.sessions("steps", count=3) as group, client.sessions("last", count=3) as last:
        for row, output in zip(rows, group.step(rows), strict=True):
            np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])
        for row, output in zip(rows, last.step(rows), strict=True):
            np.testing.assert_array_equal(output, small_models.find("last").run(row)[0])
        np.testing.assert_array_equal(group.positions, [5, 2, 9])


@pytest.mark.parametrize("index", [[3, 1], slice(1, 4, 2), np.array([False, True, False, True, False])])
def test_an_index_chooses_sessions(client: Client, index: list[int] | slice | Array) -> None:
    with client.sessions("steps", count=5) as group:
        chosen = np.arange(5)[index]
        first = group.step(np.ones((2, 3)), index=index)
        assert first.shape == (2, 2)
        np.testing.assert_array_equal(group.positions, np.isin(np.arange(5), chosen))


def test_a_bad_row_fails_alone_and_is_not_advanced(client: Client, small_models: SmallModels) -> None:
    batch = np.stack(sequences(2, 2, 2))
    with client.sessions("steps", count=3) as group:
        bad = batch[:, 0].copy()
        bad[1, 2] = np.nan
        with pytest.raises(PartialFailure) as caught:
            group.step(bad)
        assert list(caught.value.errors) == [1]
        assert isinstance(caught.value.errors[1], InvalidInput)
        assert caught.value.outputs[1] is None
        np.testing.assert_array_equal(group.positions, [1, 0, 1])
        np.testing.assert_array_equal(
            group.step(batch[1], index=[1, 0])[0], small_models.find("steps").run(batch[1][:1])[0][0]
        )


def test_a_session_taken_away_fails_alone(client: Client, clients: Clients, address: str) -> None:
    with client.sessions("steps", count=3) as group:
        taken = clients.connect(address).resume(group.ids[2])
        with pytest.raises(PartialFailure) as caught:
            group.step(np.zeros((3, 3)))
        assert isinstance(caught.value.errors[2], SessionMoved)
        np.testing.assert_array_equal(group.positions, [1, 1, 0])
        taken.close()


def test_more_sessions_than_a_message_takes(
    repository: Path, clients: Clients, small_models: SmallModels
) -> None:
    batch = np.random.default_rng(2).standard_normal((3000, 3)).astype(np.float32)
    with (
        server_in_thread(repository, message_bytes=64 * 1024) as address,
        clients.connect(address).sessions("steps", count=3000) as group,
    ):
        outputs = group.step(batch)
        np.testing.assert_array_equal(group.positions, np.ones(3000))
    for row in (0, 1499, 2999):
        np.testing.assert_array_equal(
            outputs[row], small_models.find("steps").run(batch[row : row + 1])[0][0]
        )


@pytest.mark.parametrize(
    ("value", "index", "message"),
    [
        (
            np.zeros((2, 3)),
            None,
            r"expected float32 \[4, 3\], \[4, T, 3\] or a list of 4 \[T, 3\]; got fl",
        ),
        (np.zeros((4, 2)), None, r"got float32 of shape \[4, 2\]"),
        ([np.zeros((1, 3))] * 3, None, "got a list of 3"),
        (np.zeros((2, 3)), [1, 1], "index: expected every session at most once"),
        (np.zeros((2, 3)), [1, 9], "indices into 4 sessions"),
        (np.zeros((2, 3)), [], "index: expected at least one session"),
    ],
)
def test_what_does_not_fit_is_named(client: Client, value: object, index: object, message: str) -> None:
    with client.sessions("steps", count=4) as group:
        with pytest.raises(InvalidInput, match=message):
            group.step(value, index=index)
        np.testing.assert_array_equal(group.positions, np.zeros(4))


def test_a_missing_value_has_its_session_step_and_column(client: Client) -> None:
    batch = np.zeros((4, 5, 3))
    batch[2, 4, 1] = np.nan
    with client.sessions("steps", count=4) as group:
        with pytest.raises(PartialFailure, match=r"row 2: .* a missing value \(nan\) at step 4, column 1"):
            group.step(batch)
        with pytest.raises(PartialFailure, match=r"row 2: .* a missing value \(nan\) at column 1"):
            group.step(batch[:, 4])
        assert group.positions.tolist() == [6, 6, 0, 6]


def test_names_are_kept_and_collisions_reported(client: Client) -> None:
    with client.session("last", id="b") as held:
        with pytest.raises(PartialFailure) as caught:
            client.sessions("steps", ids=["a", "b"]).step(np.zeros((2, 3)))
        assert isinstance(caught.value.errors[1], SessionExists)
        client.resume("a").close()
        held.close()


def test_what_it_is_can_be_read(address: str) -> None:
    with Client(address) as client, client.sessions("steps", count=3, keep=True) as group:
        model = f"steps/{group.model.version}"
        session = client.session("steps", id="read")
        assert repr(client) == f"<Client of {address}>"
        session.close()
    assert repr(client) == f"<Client of {address}, closed>"
    assert repr(session) == f"<Session 'read' of {model} at 0, {address}>"
    first, last = group.ids[0], group.ids[-1]
    assert repr(group) == f"<SessionGroup of 3 sessions {first!r} to {last!r} of {model}, {address}>"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "either count= or ids="),
        ({"count": 0}, "count: expected a whole number from 1 .*; got 0"),
        ({"count": -1}, "count: expected a whole number from 1 .*; got -1"),
        ({"ids": []}, r"ids: expected at least one; got \[\]"),
        ({"ids": "abc"}, "ids: expected a list of texts .*; got 'abc'"),
        ({"ids": ["a", "b", "a"]}, "every id once; 'a' stands twice"),
    ],
)
def test_what_is_no_group(client: Client, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        client.sessions("steps", **asked).step(np.zeros((0, 3)))


def test_a_group_that_cannot_be_opened_leaves_no_session(repository: Path, clients: Clients) -> None:
    with server_in_thread(repository, sessions=5, request_rows=3) as address:
        client = clients.connect(address)
        other = client.sessions("steps", count=3)
        with pytest.raises(PartialFailure, match="3 of 5 rows failed") as caught:
            client.sessions("steps", count=5).step(np.zeros((5, 3)))
        assert all(isinstance(error, LimitReached) for error in caught.value.errors.values())
        assert {each.id for each in client.list_sessions()} == set(other.ids)


def test_nor_where_a_later_request_is_refused(repository: Path, clients: Clients) -> None:
    with server_in_thread(repository, request_rows=3) as address:
        client = clients.connect(address)
        with pytest.raises(InvalidInput, match="expected ids of 1 to 128"):
            client.sessions("steps", ids=["a", "b", "c", ""]).step(np.zeros((4, 3)))
        assert {info.id for info in client.list_sessions()} == {"a", "b", "c"}  # named ones can be found
