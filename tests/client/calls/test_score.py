"""Scores many sequences through both clients: order, failing rows, files, memory, servers that stop."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import redirect_stderr
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.calls.scored import RAGGED, expect_outputs, write
from tests.client.clients import Clients
from tests.client.restarts import RestartableServer
from tests.client.samples import sequences
from tests.helpers.models.small import SmallModels

from statewise.client import (
    AsyncClient,
    Client,
    InvalidInput,
    LimitReached,
    ModelNotFound,
    Progress,
    Sample,
    Unavailable,
)
from statewise.client.bulk import Meter, report_of
from statewise.service.testing import server_in_thread


class TestResults:
    @pytest.mark.parametrize("name", ["steps", "last", "both"])
    def test_every_sequence_has_the_outputs_it_has_alone(
        self, client: Client, small_models: SmallModels, name: str
    ) -> None:
        found = list(client.score(name, RAGGED))
        expect_outputs(found, RAGGED, small_models.find(name))
        assert [scored.id for scored in found] == list(range(len(RAGGED)))

    def test_thousands_come_in_order_through_many_requests(self, client: Client) -> None:
        lengths = np.random.default_rng(2).integers(1, 12, size=4000).tolist()
        rows = sequences(*lengths)
        found = list(client.score("last", iter(rows)))
        assert [scored.index for scored in found] == list(range(len(rows)))
        expected = client.predict("last", rows)
        np.testing.assert_array_equal([scored.outputs for scored in found], expected)

    def test_names_come_back(self, client: Client) -> None:
        samples = [Sample("a", RAGGED[0]), Sample(("b", 7), RAGGED[1])]
        assert [scored.id for scored in client.score("last", samples)] == ["a", ("b", 7)]
        assert [scored.id for scored in client.score("last", {"x": RAGGED[0], "y": RAGGED[1]})] == ["x", "y"]

    def test_lists_and_arrays_of_other_types_are_sequences_too(
        self, client: Client, small_models: SmallModels
    ) -> None:
        row = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
        found = list(client.score("steps", [row, np.array(row), np.array(row, np.float16)]))
        expect_outputs(found, [row, row, row], small_models.find("steps"))

    def test_nothing_in_nothing_out(self, client: Client) -> None:
        assert list(client.score("steps", [])) == []

    def test_start_passes_over_what_was_done_before(self, client: Client) -> None:
        whole = list(client.score("last", RAGGED))
        rest = list(client.score("last", RAGGED, start=4))
        assert [(s.index, s.id) for s in rest] == [(s.index, s.id) for s in whole[4:]]
        np.testing.assert_array_equal([s.outputs for s in rest], [s.outputs for s in whole[4:]])

    def test_labels_of_a_model_that_has_none_are_refused(self, client: Client) -> None:
        with pytest.raises(InvalidInput, match="labels"):
            list(client.score("steps", RAGGED, labels=True))

    def test_a_version_may_be_named(self, client: Client, small_models: SmallModels) -> None:
        found = list(client.score("steps", RAGGED[:1], version=1))
        np.testing.assert_array_equal(found[0].outputs, small_models.find("steps", 1).run(RAGGED[0])[0])


class TestRowsThatFail:
    def test_they_are_reported_in_their_place_and_the_others_are_not_touched(
        self, client: Client, small_models: SmallModels
    ) -> None:
        spoilt = RAGGED[2].copy()
        spoilt[3, 1] = np.nan
        rows = [
            RAGGED[0],
            spoilt,
            RAGGED[1],
            np.zeros((4, 5)),
            np.zeros((0, 3)),
            [[1, 2], [3]],
            "text",
            RAGGED[3],
        ]
        found = list(client.score("steps", rows))
        assert [scored.index for scored in found] == list(range(8))
        for place, words in {1: "finite", 3: "5", 4: "time step", 5: "no regular", 6: "vocabulary"}.items():
            assert found[place].outputs is None
            assert isinstance(found[place].error, InvalidInput)
            assert words in str(found[place].error)
        for place in (0, 2, 7):
            assert found[place].error is None
            np.testing.assert_array_equal(
                found[place].outputs, small_models.find("steps").run(np.asarray(rows[place]))[0]
            )

    def test_a_batch_is_no_sequence(self, client: Client) -> None:
        (scored,) = client.score("steps", [np.zeros((2, 4, 3))])
        assert "one sequence" in str(scored.error)

    def test_one_longer_than_a_request_fails_alone(self, clients: Clients, repository: Path) -> None:
        with server_in_thread(repository, message_bytes=64 * 1024) as address:
            client = clients.connect(address)
            found = list(client.score("last", [*RAGGED, np.zeros((6000, 3), np.float32), *RAGGED]))
        assert isinstance(found[7].error, LimitReached)
        assert [scored.index for scored in found if scored.error] == [7]

    def test_what_concerns_all_rows_ends_the_run(self, client: Client) -> None:
        with pytest.raises(ModelNotFound):
            list(client.score("nothing", RAGGED))
        with pytest.raises(InvalidInput, match="start"):
            list(client.score("steps", RAGGED, start=-1))

    @pytest.mark.parametrize("source", [7, "no-such-file.jsonl", "*.nothing"])
    def test_a_source_that_is_none_is_told_at_once(self, client: Client, source: object) -> None:
        with pytest.raises(InvalidInput, match="expected"):
            client.score("steps", source)

    def test_what_the_source_raises_reaches_the_caller(self, client: Client) -> None:
        def rows() -> Iterator[Any]:
            yield RAGGED[0]
            raise KeyError("from the source")

        with pytest.raises(KeyError, match="from the source"):
            list(client.score("steps", rows()))


class TestBounds:
    def test_a_source_is_read_no_further_than_what_is_held(self, client: Client) -> None:
        row = np.zeros((50_000, 3), np.float32)  # a megabyte with its outputs
        read = 0

        def rows() -> Iterator[Any]:
            nonlocal read
            while True:
                read += 1
                yield row

        results = client.score("steps", rows())
        for _, _scored in zip(range(20), results, strict=False):
            pass
        assert read < 20 + 2 * 64
        results.close()

    def test_a_source_that_rests_does_not_keep_results_back(self, address: str) -> None:
        """With `AsyncClient` the first result comes although the source never yields a second sequence."""

        async def rows() -> AsyncIterator[Any]:
            yield RAGGED[0]
            await asyncio.Event().wait()

        async def run() -> Any:
            async with AsyncClient(address) as client:
                results = client.score("last", rows())
                first = await anext(results)
                await results.aclose()
                return first

        assert asyncio.run(run()).index == 0

    def test_leaving_early_leaves_nothing_running(self, address: str) -> None:
        def running() -> set[threading.Thread]:
            servers = ("asyncio_", "statewise-run")  # the server starts them when there is work
            return {thread for thread in threading.enumerate() if not thread.name.startswith(servers)}

        before = running()
        with Client(address) as client:
            for scored in client.score("steps", repeat(RAGGED[0])):
                if scored.index == 100:
                    break
            del scored
            client.predict("steps", RAGGED[0])
        assert running() <= before


class TestServersThatGo:
    def test_a_full_queue_is_waited_for(self, clients: Clients, repository: Path) -> None:
        rows = sequences(*[20] * 200)
        with server_in_thread(repository, queue_steps=100) as address:
            client = clients.connect(address)
            found = list(client.score("last", [*rows, np.zeros((101, 3), np.float32)]))
            expected = [client.predict("last", row) for row in rows]
        assert isinstance(found.pop().error, LimitReached)
        assert [scored.error for scored in found] == [None] * len(rows)
        np.testing.assert_array_equal([scored.outputs for scored in found], expected)

    def test_a_restart_is_waited_for(self, clients: Clients, repository: Path) -> None:
        rows = sequences(*[5] * 3000)
        with RestartableServer(repository) as server:
            client = clients.connect(server.address)
            found = []
            for scored in client.score("last", iter(rows)):
                found.append(scored)
                if scored.index == 500:
                    server.restart()
            expected = client.predict("last", rows)
        assert [scored.error for scored in found] == [None] * len(rows)
        np.testing.assert_array_equal([scored.outputs for scored in found], expected)

    def test_one_that_stays_away_ends_the_run(self, clients: Clients, repository: Path) -> None:
        with RestartableServer(repository) as server:
            client = clients.connect(server.address, reconnect_s=0.2)
            results = client.score("last", repeat(RAGGED[0]))
            next(results)
            server.stop()
            with pytest.raises(Unavailable):
                list(results)


class TestProgress:
    def test_the_last_report_is_of_everything(self, client: Client) -> None:
        told: list[Progress] = []
        list(client.score("last", [*RAGGED, "text"], start=2, progress=told.append))
        last = told[-1]
        assert (last.done, last.total, last.scored, last.failed, last.ended) == (8, 8, 6, 1, True)
        assert last.left_s == 0

    def test_files_know_how_many_rows_they_have(self, client: Client, tmp_path: Path) -> None:
        for kind in (".jsonl", ".npz", ".parquet"):
            write(tmp_path / f"rows{kind}", RAGGED)
        told: list[Progress] = []
        list(client.score("last", tmp_path / "rows.*", progress=told.append))
        assert told[-1].total == 3 * len(RAGGED)

    def test_a_line_has_rate_and_time_left(self) -> None:
        told: list[Progress] = []
        now_s = 0.0
        meter = Meter(told.append, clock=lambda: now_s, total=1000, done=100)
        for _ in range(300):
            now_s += 0.01
            meter.count(failed=False)
        assert str(told[-1]).startswith("[=========               ] ")
        assert "100/s" in str(told[-1])
        assert "0:06 left" in str(told[-1])
        assert len(told) < 40  # three seconds, at most ten a second

    def test_only_terminals_are_drawn_on(self) -> None:
        with redirect_stderr(io.StringIO()):
            assert report_of(True) is None
        assert report_of(False) is None
