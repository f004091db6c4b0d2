"""Takes back the last requests of sessions and groups, one by one and at once, on a real server."""

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.samples import sequences
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import Client, InvalidInput, PartialFailure


def test_several_requests_are_taken_back_one_by_one(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    whole = small_models.find("steps").run(x)[0]
    with client.session("steps", keep=3) as session:
        assert session.keep == 3
        for begin in (0, 2, 5, 6):
            session.step(x[begin : begin + 4])
        assert session.position == 16
        for position in (12, 8, 4):
            session.rewind()
            assert session.position == position
        with pytest.raises(InvalidInput, match="the last 3 requests can be undone, and nothing"):
            session.rewind()
        np.testing.assert_array_equal(session.step(x[4:]), whole[4:])


def test_a_position_is_gone_back_to_at_once(client: Client, small_models: SmallModels, x: Floats) -> None:
    whole = small_models.find("steps").run(x)[0]
    with client.session("steps", keep=8) as session:
        for sample in x[:6]:
            session.step(sample)
        session.rewind(to=6)
        session.rewind(to=2)
        with pytest.raises(InvalidInput, match=r"positions kept of session '.*' \(0, 1\); got 5"):
            session.rewind(to=5)
        np.testing.assert_array_equal(session.step(x[2:]), whole[2:])
        session.rewind(to=1)
        np.testing.assert_array_equal(session.step(x[1:]), whole[1:])


def test_a_resumed_session_knows_what_is_kept(
    client: Client, clients: Clients, address: str, small_models: SmallModels, x: Floats
) -> None:
    first = client.session("steps", id="kept", keep=2)
    for begin in (0, 3, 5):
        first.step(x[begin : begin + 2])
    session = clients.connect(address).resume("kept")
    assert (session.keep, session.position) == (2, 6)
    session.rewind()
    session.rewind()
    assert session.position == 2
    with pytest.raises(InvalidInput, match="expected a step or generation to undo"):
        session.rewind()
    session.close()


def test_a_fork_keeps_as_many(client: Client, x: Floats) -> None:
    with client.session("steps", keep=4) as session:
        session.step(x[:3])
        with session.fork() as twin:
            assert twin.keep == 4
            twin.step(x[3:5])
            twin.step(x[5:7])
            twin.rewind(to=3)
            assert (twin.position, session.position) == (3, 3)


@pytest.mark.parametrize("keep", [True, False, np.True_])
def test_a_flag_says_only_whether_a_session_stays_open(client: Client, keep: bool) -> None:
    with client.session("steps", keep=keep) as session:
        assert session.keep == 1
    stays = session.id in {info.id for info in client.list_sessions()}
    assert stays == bool(keep)
    if stays:
        client.resume(session.id).close()


def test_a_number_does_not_leave_a_session_open(client: Client) -> None:
    with client.session("steps", keep=2) as session, client.sessions("steps", count=2, keep=2) as group:
        assert group.keep.tolist() == [2, 2]
    assert not {session.id, *group.ids} & {info.id for info in client.list_sessions()}


def test_groups_are_taken_back_together_or_in_part(client: Client, small_models: SmallModels) -> None:
    batch, oracle = np.stack(sequences(8, 8, 8)), small_models.find("steps")
    expected = np.stack([oracle.run(row)[0] for row in batch])
    with client.sessions("steps", count=3, keep=2) as group:
        for step in range(4):
            group.step(batch[:, step])
        group.rewind()
        group.rewind(index=[1])
        assert group.positions.tolist() == [3, 2, 3]
        with pytest.raises(PartialFailure) as caught:
            group.rewind()
        assert list(caught.value.errors) == [1]
        assert isinstance(caught.value.errors[1], InvalidInput)
        assert group.positions.tolist() == [2, 2, 2]
        np.testing.assert_array_equal(group.step(batch[:, 2:]), expected[:, 2:])
        group.rewind(to=2)
        group.rewind(to=2)
        np.testing.assert_array_equal(group.step(batch[:, 2:]), expected[:, 2:])
        with pytest.raises(InvalidInput, match="positions kept of session"):
            group.rewind(to=1, index=[0])
