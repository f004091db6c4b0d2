"""Keeps states under names, goes back to them and copies them, on real servers."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.restarts import RestartableServer
from tests.client.samples import sequences
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import (
    CheckpointExists,
    CheckpointNotFound,
    Client,
    InvalidInput,
    LimitReached,
    PartialFailure,
)


def test_a_session_goes_back_to_a_checkpoint_as_often_as_it_likes(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    whole = small_models.find("steps").run(x)[0]
    with client.session("steps") as session:
        session.step(x[:4])
        made = session.checkpoint("before")
        assert (made.name, made.position, made.origin) == ("before", 4, session.id)
        assert made.size_bytes > 0
        assert abs((made.made_at - datetime.now(UTC)).total_seconds()) < 3600
        for _ in range(2):
            session.step(-x)
            session.step(-x)
            session.rewind(to="before")
            assert session.position == 4
            with pytest.raises(InvalidInput, match="expected a step or generation to undo"):
                session.rewind()
            np.testing.assert_array_equal(session.step(x[4:]), whole[4:])
        session.rewind()
        assert session.position == 4


def test_checkpoints_are_listed_and_dropped(client: Client, x: Floats) -> None:
    with client.session("steps") as session:
        assert session.checkpoints() == []
        made = [session.checkpoint("start")]
        session.step(x[:2])
        made.append(session.checkpoint("later"))
        assert session.checkpoint("later") == made[1]
        assert session.checkpoints() == made
        session.step(x[2:4])
        with pytest.raises(CheckpointExists, match="'later'") as caught:
            session.checkpoint("later")
        assert caught.value.session_id == session.id
        session.delete_checkpoint("later")
        session.delete_checkpoint("later")
        assert [kept.name for kept in session.checkpoints()] == ["start"]
        with pytest.raises(CheckpointNotFound, match=r"'later'.*checkpoints\(\) lists"):
            session.rewind(to="later")
        with pytest.raises(CheckpointNotFound):
            session.fork(at="later").step(x[0])
        assert session.checkpoint("later").position == 4
        session.rewind(to="start")
        assert session.position == 0


def test_a_fork_at_a_checkpoint_goes_its_own_way(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    whole = small_models.find("steps").run(x)[0]
    with client.session("steps") as session:
        session.step(x[:4])
        session.checkpoint("before")
        session.step(-x[4:9])
        with session.fork(at="before") as twin:
            assert (twin.position, session.position) == (4, 9)
            np.testing.assert_array_equal(twin.step(x[4:]), whole[4:])
            assert twin.checkpoints() == []


@pytest.mark.parametrize("name", ["", "a" * 129, "a\nb"])
def test_names_that_no_checkpoint_can_have(client: Client, name: str) -> None:
    with client.session("steps") as session:
        with pytest.raises(InvalidInput):
            session.checkpoint(name)
        assert session.checkpoints() == []


def test_a_written_state_leaves_checkpoints_alone(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("steps", keep=4) as session:
        session.step(x[:4])
        session.checkpoint("before")
        session.set_state({"state": np.ones(16)}, position=0)
        session.rewind(to="before")
        np.testing.assert_array_equal(session.step(x[4:]), small_models.find("steps").run(x)[0][4:])


def test_a_server_without_a_store_that_lost_a_session_gets_its_state_back_but_not_its_checkpoints(
    repository: Path, clients: Clients, small_models: SmallModels, x: Floats
) -> None:
    whole = small_models.find("steps").run(x)[0]
    with RestartableServer(repository) as server:
        client = clients.connect(server.address)
        session = client.session("steps", keep=True)
        session.step(x[:4])
        session.checkpoint("before")
        session.step(-x)
        session.rewind(to="before")
        session.step(x[4])
        server.restart()
        np.testing.assert_array_equal(session.step(x[5:]), whole[5:])
        with pytest.raises(CheckpointNotFound):
            session.rewind(to="before")
        assert session.position == len(x)


def test_checkpoints_outlive_the_server_with_a_store(
    repository: Path, clients: Clients, small_models: SmallModels, x: Floats, tmp_path: Path
) -> None:
    whole = small_models.find("steps").run(x)[0]
    store = f"sqlite:{tmp_path / 'sessions.db'}"
    with RestartableServer(repository, store=store) as server:
        client = clients.connect(server.address)
        session = client.session("steps", id="kept", keep=3)
        session.step(x[:4])
        made = session.checkpoint("before")
        session.set_state({"state": np.ones(16)}, position=9)
        session.step(x[:2])
        server.restart()
        assert session.checkpoints() == [made]
        session.rewind()
        assert session.position == 9
        session.rewind(to="before")
        server.restart()
        np.testing.assert_array_equal(session.step(x[4:]), whole[4:])
        again = client.resume("kept")
        again.rewind(to="before")
        np.testing.assert_array_equal(again.step(x[4:]), whole[4:])


def test_a_snapshot_carries_checkpoints_where_it_is_asked_to(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    whole = small_models.find("steps").run(x)[0]
    with client.session("steps") as session:
        session.step(x[:4])
        made = session.checkpoint("before")
        session.step(-x[:3])
        plain, full = session.snapshot(), session.snapshot(checkpoints=True)
        assert len(full) - len(plain) >= made.size_bytes
    with client.restore(plain) as restored:
        assert (restored.position, restored.checkpoints()) == (7, [])
    with client.restore(full) as restored:
        assert (restored.position, restored.checkpoints()) == (7, [made])
        restored.rewind(to="before")
        np.testing.assert_array_equal(restored.step(x[4:]), whole[4:])


def test_groups_keep_checkpoints_under_one_name(client: Client, small_models: SmallModels) -> None:
    batch, oracle = np.stack(sequences(8, 8, 8)), small_models.find("steps")
    expected = np.stack([oracle.run(row)[0] for row in batch])
    with client.sessions("steps", count=3) as group:
        group.step(batch[:, :4])
        made = group.checkpoint("before")
        assert [(kept.position, kept.origin) for kept in made] == [
            (4, session_id) for session_id in group.ids
        ]
        assert group.checkpoints() == [[kept] for kept in made]
        group.step(-batch)
        group.rewind(to="before")
        np.testing.assert_array_equal(group.step(batch[:, 4:]), expected[:, 4:])
        group.delete_checkpoint("before", index=[1])
        assert [len(kept) for kept in group.checkpoints()] == [1, 0, 1]
        with pytest.raises(PartialFailure) as caught:
            group.rewind(to="before")
        assert [type(error) for error in caught.value.errors.values()] == [CheckpointNotFound]
        assert group.positions.tolist() == [4, 8, 4]


def test_a_groups_server_that_lost_it_gets_it_back_from_its_checkpoints(
    repository: Path, clients: Clients, small_models: SmallModels
) -> None:
    batch, oracle = np.stack(sequences(8, 8, 8)), small_models.find("steps")
    expected = np.stack([oracle.run(row)[0] for row in batch])
    with RestartableServer(repository) as server:
        group = clients.connect(server.address).sessions("steps", count=3, keep=True)
        group.step(batch[:, :4])
        group.checkpoint("before")
        group.step(-batch)
        group.rewind(to="before")
        group.step(batch[:, 4])
        server.restart()
        np.testing.assert_array_equal(group.step(batch[:, 5:]), expected[:, 5:])


def test_the_number_of_checkpoints_has_a_limit(repository: Path, clients: Clients) -> None:
    client = clients.serve(repository, session_checkpoints=2)
    with client.session("steps") as session:
        session.checkpoint("a")
        session.checkpoint("b")
        with pytest.raises(LimitReached):
            session.checkpoint("c")
        session.delete_checkpoint("a")
        session.checkpoint("c")
