"""Lists models, sessions, limits and statistics of a server through both clients."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients

from statewise.client import Client, InvalidInput, Sample
from statewise.service.testing import server_in_thread


def test_models_lists_every_version_with_its_shapes(client: Client) -> None:
    found = {(model.name, model.version): model for model in client.models()}
    assert set(found) == {("steps", 1), ("steps", 2), ("last", 1), ("both", 1)}
    steps = found["steps", 2]
    assert steps.is_default
    assert not found["steps", 1].is_default
    assert (steps.inputs[0].shape, steps.inputs[0].dtype) == ((3,), "float32")
    assert steps.streamable
    assert not found["both", 1].streamable
    assert found["last", 1].labels == ("left", "right")


def test_a_model_names_the_fewest_steps_that_it_takes(
    clients: Clients, repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(repository / "steps" / "1", tmp_path / "windows" / "1")
    (tmp_path / "windows" / "1" / "model.toml").write_text("least_steps = 4")
    with server_in_thread(tmp_path) as address:
        client = clients.connect(address)
        (windows,) = client.models()
        assert windows.least_steps == 4
        requests = client.watch_stats(interval=0.1)
        before = next(requests).models[0].requests
        with client.session("windows") as session, pytest.raises(InvalidInput, match="at least 4 time steps"):
            session.step(np.zeros((3, 3), np.float32))
        with pytest.raises(InvalidInput, match=r"at least 4 time steps .* got 2 at index 1"):
            client.predict("windows", [np.zeros((5, 3), np.float32), np.zeros((2, 3), np.float32)])
        assert next(requests).models[0].requests == before
        requests.close()
        samples = [
            Sample("short", np.zeros((3, 3), np.float32)),
            Sample("long", np.zeros((4, 3), np.float32)),
        ]
        short, long = client.score("windows", samples)
        assert "at least 4 time steps" in str(short.error)
        assert long.outputs.shape == (4, 2)


def test_server_announces_its_limits(client: Client) -> None:
    server = client.server()
    assert server.limits.message_bytes > 0
    assert server.store == "none"


def test_list_sessions_shows_those_open_and_filters(client: Client) -> None:
    with client.session("steps", id="listed") as session:
        session.step(np.zeros((4, 3), np.float32))
        found = {info.id: info for info in client.list_sessions(model="steps")}
        assert (found["listed"].model, found["listed"].position) == ("steps", 4)
        assert "listed" not in {info.id for info in client.list_sessions(model="last")}
        session.close()
    assert "listed" not in {info.id for info in client.list_sessions()}


def test_list_sessions_shows_those_asleep(clients: Clients, repository: Path, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'sessions.db'}"
    with server_in_thread(repository, store=store) as address:
        client = clients.connect(address)
        for name in ("a", "b", "c"):
            client.session("steps", id=name).step(np.zeros((4, 3), np.float32))
    with server_in_thread(repository, store=store) as address:
        client = clients.connect(address)
        client.resume("b")
        found = [(one.id, one.state, one.position) for one in client.list_sessions()]
        assert found == [("a", "asleep", 4), ("b", "awake", 4), ("c", "asleep", 4)]
        assert [one.id for one in client.list_sessions(state="awake")] == ["b"]
        assert [one.id for one in client.list_sessions(state="asleep")] == ["a", "c"]
        assert [one.id for one in client.list_sessions(limit=2)] == ["a", "b"]
        with pytest.raises(InvalidInput, match='state: expected None, "awake" or "asleep"; got 3'):
            client.list_sessions(state=3)  # type: ignore[arg-type]


def test_statistics_are_watched_until_the_caller_stops(client: Client) -> None:
    with client.session("steps") as session:
        session.step(np.zeros((4, 3), np.float32))
        reports = client.watch_stats(interval=0.1)
        first, second = next(reports), next(reports)
        reports.close()
    found = {(model.model, model.version): model for model in first.models}
    assert found["steps", 2].steps >= 4
    assert found["steps", 2].sessions >= 1
    assert found["steps", 2].latency_p50_s is not None
    assert second.at > first.at
    with pytest.raises(InvalidInput, match="expected an interval of"):
        next(client.watch_stats(interval=0.01))
