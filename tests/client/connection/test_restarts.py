"""Stops servers and starts them again: sessions go on, or are lost and say so."""

from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.restarts import RestartableServer
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import (
    PartialFailure,
    SessionLost,
)


def test_sessions_go_on_after_a_restart(
    repository: Path, clients: Clients, small_models: SmallModels, x: Floats
) -> None:
    with RestartableServer(repository) as server:
        client = clients.connect(server.address)
        session, last = client.session("steps"), client.session("last")
        group = client.sessions("steps", count=3)
        outputs = [session.step(x[:5]), *(session.step(sample)[None] for sample in x[5:8])]
        last.step(x[:8])
        grouped = [group.step(np.stack([x[:8]] * 3))]
        server.restart()
        outputs.append(session.step(x[8:]))
        grouped.append(group.step(np.stack([x[8:]] * 3)))
        np.testing.assert_array_equal(np.concatenate(outputs), small_models.find("steps").run(x)[0])
        np.testing.assert_array_equal(last.step(x[8:]), small_models.find("last").run(x)[0])
        for row in np.concatenate(grouped, axis=1):
            np.testing.assert_array_equal(row, small_models.find("steps").run(x)[0])
        assert session.position == 20


def test_whatever_is_asked_first_after_a_restart_finds_the_session(
    repository: Path, clients: Clients, small_models: SmallModels, x: Floats
) -> None:
    with RestartableServer(repository) as server:
        client = clients.connect(server.address)
        sessions = [client.session("steps") for _ in range(3)]
        for session in sessions:
            session.step(x[:5])
            session.step(x[5:8])
        server.restart()
        forked, restored = sessions[0].fork(), client.restore(sessions[1].snapshot())
        sessions[2].rewind()
        assert [forked.position, restored.position, sessions[2].position] == [8, 8, 5]
        expected = small_models.find("steps").run(x)[0]
        for session in (forked, restored, sessions[0], sessions[1]):
            np.testing.assert_array_equal(session.step(x[8:]), expected[8:])
        np.testing.assert_array_equal(sessions[2].step(x[5:]), expected[5:])


def test_a_session_that_cannot_be_rebuilt_is_lost_and_says_so(
    repository: Path, clients: Clients, x: Floats
) -> None:
    with RestartableServer(repository) as server:
        client = clients.connect(server.address, replay_bytes=0)
        session, fresh = client.session("steps"), client.session("steps")
        group = client.sessions("steps", count=2)
        session.step(x)
        group.step(np.zeros((2, 3)))
        server.restart()
        with pytest.raises(SessionLost, match="open a new session"):
            session.step(x)
        with pytest.raises(PartialFailure) as caught:
            group.step(np.zeros((2, 3)))
        assert all(isinstance(error, SessionLost) for error in caught.value.errors.values())
        assert fresh.step(x).shape == (20, 2)  # it had consumed no input, so it lost none
