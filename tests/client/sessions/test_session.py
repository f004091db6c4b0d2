"""Steps, resumes, forks and closes single sessions through both clients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.samples import sequences
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import (
    Client,
    InvalidInput,
    InvalidSnapshot,
    NotStreamable,
    SessionExists,
    SessionMoved,
    SessionNotFound,
)
from statewise.service.testing import server_in_thread


def test_steps_one_at_a_time_equal_the_whole_sequence(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("steps") as session:
        outputs = np.stack([session.step(sample) for sample in x])
        assert session.position == len(x)
    np.testing.assert_array_equal(outputs, small_models.find("steps").run(x)[0])


def test_chunks_and_single_steps_mix(client: Client, small_models: SmallModels, x: Floats) -> None:
    with client.session("steps") as session:
        parts = [session.step(x[:7]), session.step(x[7])[None], session.step(x[8:])]
    np.testing.assert_array_equal(np.concatenate(parts), small_models.find("steps").run(x)[0])


def test_many_to_one_gives_the_output_after_the_last_step(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("last") as session:
        for end in (1, 8, 20):
            begin = session.position
            output = session.step(x[begin:end] if end - begin > 1 else x[begin])
            np.testing.assert_array_equal(output, small_models.find("last").run(x[:end])[0])


def test_stream_answers_each_sample(client: Client, small_models: SmallModels, x: Floats) -> None:
    with client.session("steps") as session:
        outputs = list(session.stream(iter(x)))
    np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(x)[0])


def test_a_version_is_kept_for_the_sessions_life(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("steps", version=1) as session:
        assert session.model.version == 1
        np.testing.assert_array_equal(session.step(x), small_models.find("steps", 1).run(x)[0])


def test_a_chunk_longer_than_a_message_goes_in_several(
    repository: Path, clients: Clients, small_models: SmallModels
) -> None:
    (long,) = sequences(9000)
    with server_in_thread(repository, message_bytes=64 * 1024) as address:
        client = clients.connect(address)
        with client.session("steps") as session, client.session("last") as last:
            np.testing.assert_array_equal(session.step(long), small_models.find("steps").run(long)[0])
            np.testing.assert_array_equal(last.step(long), small_models.find("last").run(long)[0])
            assert session.position == 9000


def test_leaving_closes_anonymous_sessions_only(client: Client) -> None:
    with client.session("steps") as gone, client.session("steps", keep=True) as kept:
        pass
    with client.session("steps", id="mine"):
        pass
    open_ids = {info.id for info in client.list_sessions()}
    assert gone.id not in open_ids
    assert {kept.id, "mine"} <= open_ids
    for session_id in (kept.id, "mine"):
        client.resume(session_id).close()


def test_closing_the_client_closes_anonymous_sessions(clients: Clients, address: str) -> None:
    other = clients.connect(address)
    anonymous = other.session("steps")
    other.session("steps", id="stays")
    other.close()
    watcher = clients.connect(address)
    open_ids = {info.id for info in watcher.list_sessions()}
    assert anonymous.id not in open_ids
    assert "stays" in open_ids
    watcher.resume("stays").close()


def test_resume_goes_on_where_the_session_stands_and_voids_the_old_handle(
    client: Client, clients: Clients, address: str, small_models: SmallModels, x: Floats
) -> None:
    first = client.session("steps", id="wanders")
    begin = first.step(x[:5])
    second = clients.connect(address).resume("wanders")
    assert second.position == 5
    rest = second.step(x[5:])
    np.testing.assert_array_equal(np.concatenate([begin, rest]), small_models.find("steps").run(x)[0])
    with pytest.raises(SessionMoved, match=r"'wanders'.*resume\(\) takes the session over") as caught:
        first.step(x[0])
    assert caught.value.session_id == "wanders"
    assert first.position == 5
    second.close()


def test_an_id_of_another_model_is_taken(client: Client) -> None:
    with client.session("steps", id="taken") as session:
        with pytest.raises(SessionExists, match=r"'taken'.*choose another id"):
            client.session("last", id="taken").step(np.zeros(3))
        session.close()


def test_a_closed_session_says_so(client: Client, x: Floats) -> None:
    session = client.session("steps")
    session.close()
    session.close()
    with pytest.raises(SessionNotFound, match="it is closed"):
        session.step(x)


def test_a_session_that_was_never_opened(client: Client) -> None:
    with pytest.raises(SessionNotFound, match="'never'"):
        client.resume("never")


def test_a_model_without_state_has_no_sessions(client: Client) -> None:
    with pytest.raises(NotStreamable, match=r"predict\(\)") as caught:
        client.session("both").step(np.zeros(3))
    assert caught.value.model == "both"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.zeros(2),
            r"expected float32 \[3\] \(one time step\) or \[T, 3\] \(T steps\); got float32 of sh",
        ),
        (np.zeros((2, 4, 3)), r"got float32 of shape \[2, 4, 3\]"),
        (np.zeros((0, 3)), r"at least one time step; got shape \[0, 3\]"),
        ([], r"got float32 of shape \[0\]"),
        ([1, [2, 3]], "no regular shape"),
        (np.zeros(3, np.complex128), "numbers; got elements of type complex128"),
        (np.array([0, np.nan, 0]), r"finite numbers; got a missing value \(nan\) at column 1"),
        (np.array([[0, 0, 0], [0, 0, np.inf]]), "finite numbers; got inf at step 1, column 2"),
        (np.array([0, 1e300, 0]), r"numbers that float32 holds; got 1e\+300 at column 1"),
    ],
)
def test_a_bad_step_changes_nothing(
    client: Client, small_models: SmallModels, x: Floats, value: object, message: str
) -> None:
    with client.session("steps") as session, client.session("steps") as neighbour:
        begin = session.step(x[:3])
        with pytest.raises(InvalidInput, match=message):
            session.step(value)
        assert session.position == 3
        rest = session.step(x[3:])
        np.testing.assert_array_equal(np.concatenate([begin, rest]), small_models.find("steps").run(x)[0])
        np.testing.assert_array_equal(neighbour.step(x), small_models.find("steps").run(x)[0])


def test_a_fork_and_its_original_go_their_own_ways(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("steps") as session:
        session.step(x[:3])
        with session.fork() as twin:
            assert (twin.position, twin.id != session.id) == (3, True)
            session.step(-x[3:])
            np.testing.assert_array_equal(twin.step(x[3:]), small_models.find("steps").run(x)[0][3:])


def test_a_rewound_session_goes_on_from_before_its_last_request(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("steps") as session:
        session.step(x[:2])
        session.step(-x[2:4])
        session.rewind()
        assert session.position == 2
        np.testing.assert_array_equal(session.step(x[2:]), small_models.find("steps").run(x)[0][2:])


def test_a_snapshot_opens_a_session_where_it_was_taken(
    client: Client, small_models: SmallModels, x: Floats
) -> None:
    with client.session("steps") as session:
        session.step(x[:3])
        token = session.snapshot()
    with client.restore(token) as restored:
        assert restored.position == 3
        np.testing.assert_array_equal(restored.step(x[3:]), small_models.find("steps").run(x)[0][3:])
    with pytest.raises(InvalidSnapshot, match="no snapshot"):
        client.restore(b"token")
    with pytest.raises(InvalidSnapshot, match="altered"):
        client.restore(token[:-1] + b"!")


def test_a_model_that_does_not_generate_says_what_to_do(client: Client) -> None:
    with client.session("steps") as session:
        session.step(np.zeros(3))
        with pytest.raises(InvalidInput, match=r"does not generate: predict\(\) runs it"):
            list(session.generate(steps=4))
        assert session.position == 1
    with pytest.raises(InvalidInput, match=r"does not generate: predict\(\) runs it"):
        list(client.generate("steps", steps=4))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, r"steps: expected a whole number from 1 to 2\*\*32 - 1; got 0"),
        ({"temperature": -1.0}, "temperature: expected a number of at least 0; got -1"),
        ({"temperature": float("nan")}, "temperature: expected a number of at least 0; got nan"),
        ({"top_k": 0}, "top_k: expected a whole number from 1 to"),
        ({"seed": -1}, "seed: expected a whole number from 0 to"),
    ],
)
def test_settings_of_a_generation_are_judged_at_once(
    client: Client, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        next(client.generate("steps", **setting))
