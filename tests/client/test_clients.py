"""Both clients against a real server: what callers get, and what they are told when something is wrong."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.models.small import SmallModels

from statewise.client import (
    Client,
    InvalidInput,
    InvalidSnapshot,
    LimitReached,
    ModelNotFound,
    NotStreamable,
    PartialFailure,
    SessionExists,
    SessionLost,
    SessionMoved,
    SessionNotFound,
    Timeout,
    Unavailable,
)
from statewise.service.testing import server_in_thread


@pytest.fixture
def x() -> Any:
    """One sequence [20, 3]."""
    return np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)


def sequences(*lengths: int) -> list[Any]:
    random = np.random.default_rng(1)
    return [random.standard_normal((length, 3)).astype(np.float32) for length in lengths]


class TestLooking:
    def test_models_lists_every_version_with_its_shapes(self, client: Any) -> None:
        found = {(model.name, model.version): model for model in client.models()}
        assert set(found) == {("steps", 1), ("steps", 2), ("last", 1), ("both", 1)}
        steps = found["steps", 2]
        assert steps.is_default
        assert not found["steps", 1].is_default
        assert (steps.inputs[0].shape, steps.inputs[0].dtype) == ((3,), "float32")
        assert steps.streamable
        assert not found["both", 1].streamable
        assert found["last", 1].labels == ("left", "right")

    def test_server_announces_its_limits(self, client: Any) -> None:
        server = client.server()
        assert server.limits.message_bytes > 0
        assert server.store == "none"

    def test_list_sessions_shows_those_open_and_filters(self, client: Any) -> None:
        with client.session("steps", id="listed") as session:
            session.step(np.zeros((4, 3), np.float32))
            found = {info.id: info for info in client.list_sessions(model="steps")}
            assert (found["listed"].model, found["listed"].position) == ("steps", 4)
            assert "listed" not in {info.id for info in client.list_sessions(model="last")}
            session.close()
        assert "listed" not in {info.id for info in client.list_sessions()}

    def test_statistics_are_watched_until_the_caller_stops(self, client: Any) -> None:
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


class TestPredict:
    def test_one_sequence_is_the_model_run_alone(
        self, client: Any, small_models: SmallModels, x: Any
    ) -> None:
        np.testing.assert_array_equal(client.predict("steps", x), small_models.find("steps").run(x)[0])
        np.testing.assert_array_equal(client.predict("last", x), small_models.find("last").run(x)[0])
        np.testing.assert_array_equal(client.predict("both", x), small_models.find("both").run(x)[0])

    def test_a_list_is_a_ragged_batch(self, client: Any, small_models: SmallModels) -> None:
        rows = sequences(5, 1, 12, 5)
        for name in ("steps", "last"):
            outputs = client.predict(name, rows)
            assert isinstance(outputs, list)
            for row, output in zip(rows, outputs, strict=True):
                np.testing.assert_array_equal(output, small_models.find(name).run(row)[0])

    def test_an_array_with_one_more_axis_is_a_batch(self, client: Any) -> None:
        batch = np.stack(sequences(6, 6, 6))
        assert client.predict("steps", batch).shape == (3, 6, 2)
        assert client.predict("last", batch).shape == (3, 2)
        np.testing.assert_array_equal(client.predict("steps", batch)[1], client.predict("steps", batch[1]))

    def test_versions_are_chosen_by_number(self, client: Any, small_models: SmallModels, x: Any) -> None:
        np.testing.assert_array_equal(
            client.predict("steps", x, version=1), small_models.find("steps", 1).run(x)[0]
        )

    def test_float64_and_nested_lists_are_converted(self, client: Any, x: Any) -> None:
        expected = client.predict("steps", x)
        np.testing.assert_array_equal(client.predict("steps", x.astype(np.float64)), expected)
        np.testing.assert_array_equal(client.predict("steps", x.tolist()), expected)
        np.testing.assert_array_equal(client.predict("steps", {"x": x}), expected)

    def test_outputs_belong_to_the_caller(self, client: Any, x: Any) -> None:
        output = client.predict("steps", x)
        output += 1
        assert output.flags.writeable

    def test_more_than_one_message_is_split_and_put_back_in_order(
        self, repository: Any, connect: Any, small_models: SmallModels
    ) -> None:
        rows = sequences(*[3000] * 9, 1, 7)
        with server_in_thread(repository, message_bytes=64 * 1024) as address:
            client = connect(address)
            outputs = client.predict("last", rows)
            with pytest.raises(LimitReached, match="at most 5118 time steps a row"):
                client.predict("last", np.zeros((6000, 3)))
        for row, output in zip(rows, outputs, strict=True):
            np.testing.assert_array_equal(output, small_models.find("last").run(row)[0])

    def test_bad_rows_fail_alone(self, client: Any, small_models: SmallModels) -> None:
        rows = sequences(4, 4, 4)
        rows[1][2, 0] = np.nan
        with pytest.raises(PartialFailure, match=r"1 of 3 rows failed, first row 1.*got nan") as caught:
            client.predict("steps", rows)
        assert isinstance(caught.value.errors[1], InvalidInput)
        assert caught.value.outputs[1] is None
        for row in (0, 2):
            np.testing.assert_array_equal(
                caught.value.outputs[row], small_models.find("steps").run(rows[row])[0]
            )

    def test_the_failure_of_a_lone_sequence_is_raised_itself(self, client: Any, x: Any) -> None:
        x[3, 1] = np.inf
        with pytest.raises(InvalidInput, match="finite"):
            client.predict("steps", x)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.zeros(3), r"expected float32 \[T, 3\] \(one sequence\).*got float32 of shape \[3\]"),
            (np.zeros((4, 2)), r"expected float32 \[T, 3\].*got float32 of shape \[4, 2\]"),
            (np.zeros((0, 3)), r"at least one time step; got shape \[0, 3\]"),
            ([], "at least one row; got an empty list"),
            ([np.zeros((2, 3)), np.zeros((0, 3))], r"at least one time step; got shape \[0, 3\] at index 1"),
            ([np.zeros((2, 3)), np.zeros((2, 4))], r"got float32 of shape \[2, 4\] at index 1"),
            (np.zeros((2, 3), np.complex64), "expected elements that fit float32; got complex64"),
            (np.full((2, 3), "a"), "expected elements that fit float32; got <U1"),
            (np.full((2, 3), None), "expected elements that fit float32; got object"),
            ("text", "has no vocabulary"),
            ({"y": np.zeros((2, 3))}, r"expected inputs \['x'\]; got \['y'\]"),
        ],
    )
    def test_what_does_not_fit_is_named(self, client: Any, value: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            client.predict("steps", value)

    def test_an_unknown_model_or_version(self, client: Any, x: Any) -> None:
        with pytest.raises(ModelNotFound, match=r"'nowhere'.*models\(\) lists") as caught:
            client.predict("nowhere", x)
        assert caught.value.model == "nowhere"
        with pytest.raises(ModelNotFound) as caught:
            client.predict("steps", x, version=9)
        assert caught.value.version == 9


class TestSession:
    def test_steps_one_at_a_time_equal_the_whole_sequence(
        self, client: Any, small_models: SmallModels, x: Any
    ) -> None:
        with client.session("steps") as session:
            outputs = np.stack([session.step(sample) for sample in x])
            assert session.position == len(x)
        np.testing.assert_array_equal(outputs, small_models.find("steps").run(x)[0])

    def test_chunks_and_single_steps_mix(self, client: Any, small_models: SmallModels, x: Any) -> None:
        with client.session("steps") as session:
            parts = [session.step(x[:7]), session.step(x[7])[None], session.step(x[8:])]
        np.testing.assert_array_equal(np.concatenate(parts), small_models.find("steps").run(x)[0])

    def test_many_to_one_gives_the_output_after_the_last_step(
        self, client: Any, small_models: SmallModels, x: Any
    ) -> None:
        with client.session("last") as session:
            for end in (1, 8, 20):
                begin = session.position
                output = session.step(x[begin:end] if end - begin > 1 else x[begin])
                np.testing.assert_array_equal(output, small_models.find("last").run(x[:end])[0])

    def test_stream_answers_each_sample(self, client: Any, small_models: SmallModels, x: Any) -> None:
        with client.session("steps") as session:
            outputs = list(session.stream(iter(x)))
        np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(x)[0])

    def test_a_version_is_kept_for_the_sessions_life(
        self, client: Any, small_models: SmallModels, x: Any
    ) -> None:
        with client.session("steps", version=1) as session:
            assert session.model.version == 1
            np.testing.assert_array_equal(session.step(x), small_models.find("steps", 1).run(x)[0])

    def test_a_chunk_longer_than_a_message_goes_in_several(
        self, repository: Any, connect: Any, small_models: SmallModels
    ) -> None:
        (long,) = sequences(9000)
        with server_in_thread(repository, message_bytes=64 * 1024) as address:
            client = connect(address)
            with client.session("steps") as session, client.session("last") as last:
                np.testing.assert_array_equal(session.step(long), small_models.find("steps").run(long)[0])
                np.testing.assert_array_equal(last.step(long), small_models.find("last").run(long)[0])
                assert session.position == 9000

    def test_leaving_closes_anonymous_sessions_only(self, client: Any) -> None:
        with client.session("steps") as gone, client.session("steps", keep=True) as kept:
            pass
        with client.session("steps", id="mine"):
            pass
        open_ids = {info.id for info in client.list_sessions()}
        assert gone.id not in open_ids
        assert {kept.id, "mine"} <= open_ids
        for session_id in (kept.id, "mine"):
            client.resume(session_id).close()

    def test_closing_the_client_closes_anonymous_sessions(self, connect: Any, address: str) -> None:
        other = connect(address)
        anonymous = other.session("steps")
        other.session("steps", id="stays")
        other.close()
        watcher = connect(address)
        open_ids = {info.id for info in watcher.list_sessions()}
        assert anonymous.id not in open_ids
        assert "stays" in open_ids
        watcher.resume("stays").close()

    def test_resume_goes_on_where_the_session_stands_and_voids_the_old_handle(
        self, client: Any, connect: Any, address: str, small_models: SmallModels, x: Any
    ) -> None:
        first = client.session("steps", id="wanders")
        begin = first.step(x[:5])
        second = connect(address).resume("wanders")
        assert second.position == 5
        rest = second.step(x[5:])
        np.testing.assert_array_equal(np.concatenate([begin, rest]), small_models.find("steps").run(x)[0])
        with pytest.raises(SessionMoved, match=r"'wanders'.*resume\(\) takes the session over") as caught:
            first.step(x[0])
        assert caught.value.session_id == "wanders"
        assert first.position == 5
        second.close()

    def test_an_id_of_another_model_is_taken(self, client: Any) -> None:
        with client.session("steps", id="taken") as session:
            with pytest.raises(SessionExists, match=r"'taken'.*choose another id"):
                client.session("last", id="taken").step(np.zeros(3))
            session.close()

    def test_a_closed_session_says_so(self, client: Any, x: Any) -> None:
        session = client.session("steps")
        session.close()
        session.close()
        with pytest.raises(SessionNotFound, match="it is closed"):
            session.step(x)

    def test_a_session_that_was_never_opened(self, client: Any) -> None:
        with pytest.raises(SessionNotFound, match="'never'"):
            client.resume("never")

    def test_a_model_without_state_has_no_sessions(self, client: Any) -> None:
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
            (np.zeros(3, np.complex128), "fit float32; got complex128"),
            (np.array([0, np.nan, 0]), "finite numbers; got nan"),
            (np.array([0, 1e300, 0]), "finite numbers; got inf"),
        ],
    )
    def test_a_bad_step_changes_nothing(
        self, client: Any, small_models: SmallModels, x: Any, value: Any, message: str
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
        self, client: Any, small_models: SmallModels, x: Any
    ) -> None:
        with client.session("steps") as session:
            session.step(x[:3])
            with session.fork() as twin:
                assert (twin.position, twin.id != session.id) == (3, True)
                session.step(-x[3:])
                np.testing.assert_array_equal(twin.step(x[3:]), small_models.find("steps").run(x)[0][3:])

    def test_a_rewound_session_goes_on_from_before_its_last_request(
        self, client: Any, small_models: SmallModels, x: Any
    ) -> None:
        with client.session("steps") as session:
            session.step(x[:2])
            session.step(-x[2:4])
            session.rewind()
            assert session.position == 2
            np.testing.assert_array_equal(session.step(x[2:]), small_models.find("steps").run(x)[0][2:])

    def test_a_snapshot_opens_a_session_where_it_was_taken(
        self, client: Any, small_models: SmallModels, x: Any
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

    def test_a_model_that_does_not_generate_says_what_to_do(self, client: Any) -> None:
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
            ({"steps": 0}, "steps of at least 1; got 0"),
            ({"temperature": -1.0}, "temperature of at least 0; got -1"),
            ({"temperature": float("nan")}, "temperature of at least 0; got nan"),
            ({"top_k": 0}, "top_k of at least 1, or None; got 0"),
            ({"seed": -1}, "seed of 0 to"),
        ],
    )
    def test_settings_of_a_generation_are_judged_at_once(
        self, client: Any, setting: Any, message: str
    ) -> None:
        with pytest.raises(InvalidInput, match=message):
            next(client.generate("steps", **setting))


class TestGroup:
    def test_one_step_each(self, client: Any, small_models: SmallModels) -> None:
        batch = np.stack(sequences(6, 6, 6, 6))
        with client.sessions("steps", count=4) as group:
            assert len(group) == 4
            outputs = np.stack([group.step(batch[:, step]) for step in range(6)], axis=1)
            np.testing.assert_array_equal(group.positions, [6] * 4)
        for row, output in zip(batch, outputs, strict=True):
            np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])

    def test_several_steps_each_and_ragged(self, client: Any, small_models: SmallModels) -> None:
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
    def test_an_index_chooses_sessions(self, client: Any, index: Any) -> None:
        with client.sessions("steps", count=5) as group:
            chosen = np.arange(5)[index]
            first = group.step(np.ones((2, 3)), index=index)
            assert first.shape == (2, 2)
            np.testing.assert_array_equal(group.positions, np.isin(np.arange(5), chosen))

    def test_a_bad_row_fails_alone_and_is_not_advanced(self, client: Any, small_models: SmallModels) -> None:
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

    def test_a_session_taken_away_fails_alone(self, client: Any, connect: Any, address: str) -> None:
        with client.sessions("steps", count=3) as group:
            taken = connect(address).resume(group.ids[2])
            with pytest.raises(PartialFailure) as caught:
                group.step(np.zeros((3, 3)))
            assert isinstance(caught.value.errors[2], SessionMoved)
            np.testing.assert_array_equal(group.positions, [1, 1, 0])
            taken.close()

    def test_more_sessions_than_a_message_takes(
        self, repository: Any, connect: Any, small_models: SmallModels
    ) -> None:
        batch = np.random.default_rng(2).standard_normal((3000, 3)).astype(np.float32)
        with (
            server_in_thread(repository, message_bytes=64 * 1024) as address,
            connect(address).sessions("steps", count=3000) as group,
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
            (np.zeros((2, 3)), [1, 1], "an index stands twice"),
            (np.zeros((2, 3)), [1, 9], "index into 4 sessions"),
            (np.zeros((2, 3)), [], "at least one index"),
        ],
    )
    def test_what_does_not_fit_is_named(self, client: Any, value: Any, index: Any, message: str) -> None:
        with client.sessions("steps", count=4) as group:
            with pytest.raises(InvalidInput, match=message):
                group.step(value, index=index)
            np.testing.assert_array_equal(group.positions, np.zeros(4))

    def test_names_are_kept_and_collisions_reported(self, client: Any) -> None:
        with client.session("last", id="b") as held:
            with pytest.raises(PartialFailure) as caught:
                client.sessions("steps", ids=["a", "b"]).step(np.zeros((2, 3)))
            assert isinstance(caught.value.errors[1], SessionExists)
            client.resume("a").close()
            held.close()

    def test_what_it_is_can_be_read(self, address: str) -> None:
        with Client(address) as client, client.sessions("steps", count=3) as group:
            version = client.model("steps").version
            assert repr(group) == f"<3 sessions of steps/{version}>"
            assert repr(client.session("steps", id="read")) == f"<Session read of steps/{version} at 0>"
            client.resume("read").close()

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({}, "either count= or ids="),
            ({"count": 0}, "at least one session; got count=0"),
            ({"count": -1}, "at least one session; got count=-1"),
            ({"ids": []}, r"at least one session; got ids=\[\]"),
            ({"ids": "abc"}, "a list of ids; got 'abc'"),
            ({"ids": ["a", "b", "a"]}, "every id once; 'a' stands twice"),
        ],
    )
    def test_what_is_no_group(self, client: Any, asked: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            client.sessions("steps", **asked).step(np.zeros((0, 3)))

    def test_a_group_that_cannot_be_opened_leaves_no_session(self, repository: Path, connect: Any) -> None:
        with server_in_thread(repository, sessions=5, request_rows=3) as address:
            client = connect(address)
            with pytest.raises(PartialFailure, match="3 of 8 rows failed") as caught:
                client.sessions("steps", count=8).step(np.zeros((8, 3)))
            assert all(isinstance(error, LimitReached) for error in caught.value.errors.values())
            assert client.list_sessions() == []

    def test_nor_where_a_later_request_is_refused(self, repository: Path, connect: Any) -> None:
        with server_in_thread(repository, request_rows=3) as address:
            client = connect(address)
            with pytest.raises(InvalidInput, match="expected ids of 1 to 128"):
                client.sessions("steps", ids=["a", "b", "c", ""]).step(np.zeros((4, 3)))
            assert {info.id for info in client.list_sessions()} == {"a", "b", "c"}  # named ones can be found


class TestConnection:
    def test_a_reply_that_was_lost_comes_again_with_the_same_bits(
        self, connect: Any, client: Any, relay: Any, small_models: SmallModels, x: Any
    ) -> None:
        session = connect(relay.address).session("steps", id="cut off")
        outputs = [session.step(x[0])]
        relay.hold_replies()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(session.step, x[1:4])
            while not any(info.id == "cut off" and info.position == 4 for info in client.list_sessions()):
                pass
            relay.cut()
            outputs.extend(waiting.result())
        outputs.extend(session.step(x[4:]))
        np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(x)[0])
        session.close()

    def test_a_group_survives_a_cut(
        self, connect: Any, client: Any, relay: Any, small_models: SmallModels
    ) -> None:
        batch = np.stack(sequences(4, 4, 4))
        with connect(relay.address).sessions("steps", count=3) as group:
            outputs = [group.step(batch[:, 0])]
            relay.hold_replies()
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(group.step, batch[:, 1])
                while sum(info.position for info in client.list_sessions() if info.id in group.ids) < 6:
                    pass
                relay.cut()
                outputs.append(waiting.result())
            outputs += [group.step(batch[:, 2]), group.step(batch[:, 3])]
        for row, output in zip(batch, np.stack(outputs, axis=1), strict=True):
            np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])

    def test_sessions_go_on_after_a_restart(
        self, server_to_restart: Any, connect: Any, small_models: SmallModels, x: Any
    ) -> None:
        with server_to_restart() as (address, restart):
            client = connect(address)
            session, last = client.session("steps"), client.session("last")
            group = client.sessions("steps", count=3)
            outputs = [session.step(x[:5]), *(session.step(sample)[None] for sample in x[5:8])]
            last.step(x[:8])
            grouped = [group.step(np.stack([x[:8]] * 3))]
            restart()
            outputs.append(session.step(x[8:]))
            grouped.append(group.step(np.stack([x[8:]] * 3)))
            np.testing.assert_array_equal(np.concatenate(outputs), small_models.find("steps").run(x)[0])
            np.testing.assert_array_equal(last.step(x[8:]), small_models.find("last").run(x)[0])
            for row in np.concatenate(grouped, axis=1):
                np.testing.assert_array_equal(row, small_models.find("steps").run(x)[0])
            assert session.position == 20

    def test_whatever_is_asked_first_after_a_restart_finds_the_session(
        self, server_to_restart: Any, connect: Any, small_models: SmallModels, x: Any
    ) -> None:
        with server_to_restart() as (address, restart):
            client = connect(address)
            sessions = [client.session("steps") for _ in range(3)]
            for session in sessions:
                session.step(x[:5])
                session.step(x[5:8])
            restart()
            forked, restored = sessions[0].fork(), client.restore(sessions[1].snapshot())
            sessions[2].rewind()
            assert [forked.position, restored.position, sessions[2].position] == [8, 8, 5]
            expected = small_models.find("steps").run(x)[0]
            for session in (forked, restored, sessions[0], sessions[1]):
                np.testing.assert_array_equal(session.step(x[8:]), expected[8:])
            np.testing.assert_array_equal(sessions[2].step(x[5:]), expected[5:])

    def test_a_session_that_cannot_be_rebuilt_is_lost_and_says_so(
        self, server_to_restart: Any, connect: Any, x: Any
    ) -> None:
        with server_to_restart() as (address, restart):
            client = connect(address, replay_bytes=0)
            session, fresh = client.session("steps"), client.session("steps")
            group = client.sessions("steps", count=2)
            session.step(x)
            group.step(np.zeros((2, 3)))
            restart()
            with pytest.raises(SessionLost, match="open a new session"):
                session.step(x)
            with pytest.raises(PartialFailure) as caught:
                group.step(np.zeros((2, 3)))
            assert all(isinstance(error, SessionLost) for error in caught.value.errors.values())
            assert fresh.step(x).shape == (20, 2)  # had consumed nothing, so nothing is lost

    def test_an_address_where_nobody_listens(self, connect: Any) -> None:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            connect("127.0.0.1:1").models()

    def test_a_server_that_stays_away(self, server_to_restart: Any, connect: Any, x: Any) -> None:
        with server_to_restart() as (address, restart):
            client = connect(address, reconnect_s=0.2)
            session = client.session("steps")
            session.step(x[0])
            restart(back=False)
            with pytest.raises(Unavailable):
                session.step(x[1])

    def test_a_step_that_gets_no_answer_in_time(
        self, connect: Any, relay: Any, small_models: SmallModels, x: Any
    ) -> None:
        session = connect(relay.address).session("steps")
        outputs = [session.step(x[0])]
        relay.hold_replies()
        with pytest.raises(Timeout, match="larger timeout") as caught:
            session.step(x[1], timeout=0.1)
        assert isinstance(caught.value, TimeoutError)
        relay.cut()
        begin = 1 + _settled(session, x)
        outputs.extend(session.step(x[begin:]))
        expected = small_models.find("steps").run(x)[0]
        np.testing.assert_array_equal(outputs[1:], expected[begin:])

    def test_a_closed_client_says_so(self, connect: Any, address: str, x: Any) -> None:
        client = connect(address)
        session = client.session("steps", id="left open")
        client.close()
        client.close()
        for call in (client.models, lambda: session.step(x), lambda: client.predict("steps", x)):
            with pytest.raises(Unavailable, match="the client is closed"):
                call()
        connect(address).resume("left open").close()

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
    def test_a_timeout_that_is_none(self, client: Any, timeout: float) -> None:
        with pytest.raises(InvalidInput, match="expected a timeout of more than 0 s"):
            client.models(timeout=timeout)

    def test_threads_share_a_client(self, client: Any, small_models: SmallModels) -> None:
        rows = sequences(*[15] * 16)

        def run(row: Any) -> Any:
            with client.session("steps") as session:
                return np.stack([session.step(sample) for sample in row])

        with ThreadPoolExecutor(16) as pool:
            for row, output in zip(rows, pool.map(run, rows), strict=True):
                np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])

    def test_threads_that_share_a_session_take_turns(self, client: Any, x: Any) -> None:
        with client.session("steps") as session, ThreadPoolExecutor(8) as pool:
            list(pool.map(session.step, [x] * 24))
            assert session.position == 24 * 20


class TestIndependentClients:
    def test_64_clients_at_once_get_what_each_gets_alone(
        self, connect: Any, address: str, small_models: SmallModels
    ) -> None:
        rows = sequences(*[12] * 64)
        barrier = threading.Barrier(64)

        def run(row: Any) -> Any:
            client = connect(address)
            with client.session("steps") as session:
                barrier.wait()
                return np.stack([session.step(sample) for sample in row])

        with ThreadPoolExecutor(64) as pool:
            outputs = list(pool.map(run, rows))
        for row, output in zip(rows, outputs, strict=True):
            np.testing.assert_array_equal(output, small_models.find("steps").run(row)[0])


def _settled(session: Any, x: Any) -> int:
    """Steps of the one that timed out that were applied after all; the next operation finds out."""
    session.snapshot()
    return int(session.position) - 1
