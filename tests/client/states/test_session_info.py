"""Looks at single sessions by their ids: where they stand, their checkpoints, their states; wakes none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.samples import sequences
from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModels

from statewise.client import Client, InvalidInput, PermissionDenied, SessionNotFound
from statewise.service.auth import Scope, add_token
from statewise.service.testing import server_in_thread


def test_a_session_is_described_with_its_state_by_part(writers: Client, letters: Array) -> None:
    with writers.session("letters", id="described", keep=3) as session:
        session.step(letters[:5])
        session.checkpoint("before")
        session.step(letters[5:])
        info = writers.session_info("described", with_state=True)
        assert (info.id, info.model, info.position, info.keep) == ("described", "letters", 12, 3)
        assert (info.state, info.owner) == ("awake", "")
        assert info.checkpoints == tuple(session.checkpoints())
        assert info.checkpoint_bytes >= info.checkpoints[0].size_bytes > 0
        expected = session.state()
        assert info.arrays is not None
        assert list(info.arrays) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(info.arrays[name], array)
        assert writers.session_info("described").arrays is None
        session.close()


def test_one_that_is_asleep_stays_asleep(clients: Clients, repository: Path, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'sessions.db'}"
    with server_in_thread(repository, store=store) as address:
        session = clients.connect(address).session("steps", id="sleeper", keep=2)
        session.step(sequences(4)[0])
        made = session.checkpoint("kept")
        state = session.state()["state"]
    with server_in_thread(repository, store=store) as address:
        client = clients.connect(address)
        for _ in range(2):
            info = client.session_info("sleeper", with_state=True)
            assert (info.state, info.position, info.durable_position, info.keep) == ("asleep", 4, 4, 2)
            assert info.checkpoints == (made,)
            assert info.arrays is not None
            np.testing.assert_array_equal(info.arrays["state"], state)


def test_state_and_position_belong_together_while_a_session_falls_asleep_and_wakes(
    clients: Clients, repository: Path, small_models: SmallModels, tmp_path: Path
) -> None:
    [inputs] = sequences(60)
    expected = [small_models.find("steps").run(inputs[:steps])[1] for steps in range(1, len(inputs) + 1)]
    with server_in_thread(repository, store=f"sqlite:{tmp_path / 'sessions.db'}", sessions=1) as address:
        client = clients.connect(address)
        with Client(address) as stepping, ThreadPoolExecutor(1) as thread:
            seen, other = stepping.session("steps", id="seen"), stepping.session("steps", id="other")
            seen.step(inputs[0])

            def take_turns_in_memory() -> None:
                for sample in inputs[1:]:
                    other.step(inputs[0])
                    seen.step(sample)

            going_on = thread.submit(take_turns_in_memory)
            asleep = 0
            while not going_on.done():
                info = client.session_info("seen", with_state=True)
                assert info.arrays is not None
                np.testing.assert_array_equal(info.arrays["state"], expected[info.position - 1])
                asleep += info.state == "asleep"
            going_on.result()
    assert asleep


def test_others_see_no_state(clients: Clients, repository: Path, tmp_path: Path) -> None:
    callers = tmp_path / "callers.toml"
    ann = add_token(callers, "ann", [Scope.SESSION])
    bob = add_token(callers, "bob", [Scope.SESSION])
    admin = add_token(callers, "operator", [Scope.ADMIN])
    with server_in_thread(repository, callers=callers, insecure=True) as address:
        own = clients.connect(address, token=ann)
        own.session("steps", id="diary").step(sequences(4)[0])
        assert own.session_info("diary", owner="ann").position == 4
        with pytest.raises(SessionNotFound):
            clients.connect(address, token=bob).session_info("diary")
        with pytest.raises(PermissionDenied):
            clients.connect(address, token=bob).session_info("diary", owner="ann")
        operator = clients.connect(address, token=admin)
        assert operator.session_info("diary", owner="ann").position == 4
        with pytest.raises(PermissionDenied, match="shown to its owner alone"):
            operator.session_info("diary", owner="ann", with_state=True)
        with pytest.raises(SessionNotFound):
            operator.session_info("diary")


def test_what_is_no_session(client: Client) -> None:
    with pytest.raises(SessionNotFound, match="'nobody'"):
        client.session_info("nobody")
    with pytest.raises(InvalidInput, match="session_id: expected a text; got 3"):
        client.session_info(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="owner: expected a text; got 3"):
        client.session_info("a", owner=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="with_state: expected True or False; got 'yes'"):
        client.session_info("a", with_state="yes")  # type: ignore[arg-type]
