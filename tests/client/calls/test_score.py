"""Scores many sequences through both clients: order, failing rows, files, memory, servers that stop."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import redirect_stderr
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.client.clients import Clients
from tests.client.restarts import RestartableServer
from tests.client.samples import sequences
from tests.helpers.models.small import SmallModel, SmallModels

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

RAGGED = sequences(5, 1, 12, 5, 30, 2, 7)


def expect_outputs(found: list[Any], rows: list[Any], model: SmallModel) -> None:
    assert [scored.index for scored in found] == list(range(len(rows)))
    for scored, row in zip(found, rows, strict=True):
        assert scored.error is None
        np.testing.assert_array_equal(scored.outputs, model.run(np.asarray(row, np.float32))[0])


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
                found[place].outputs, small_models.find("steps").run(rows[place])[0]
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
                await results.aclose()  # type: ignore[attr-defined]
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


def write(path: Path, rows: list[Any]) -> Path:
    """Writes the rows to a file of the kind that its suffix names, with ids."""
    ids = [f"row {index}" for index in range(len(rows))]
    match path.suffix:
        case ".jsonl":
            lines = [{"id": name, "inputs": row.tolist()} for name, row in zip(ids, rows, strict=True)]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        case ".npz":
            lengths = [len(row) for row in rows]
            np.savez(path, inputs=np.concatenate(rows), lengths=lengths, ids=ids)
        case ".parquet":
            column = pa.array([row.tolist() for row in rows], pa.list_(pa.list_(pa.float32())))
            pq.write_table(pa.table({"id": ids, "inputs": column}), path, row_group_size=3)
    return path


class TestFiles:
    @pytest.mark.parametrize("kind", [".jsonl", ".npz", ".parquet"])
    def test_rows_of_a_file(
        self, client: Client, small_models: SmallModels, tmp_path: Path, kind: str
    ) -> None:
        path = write(tmp_path / f"rows{kind}", RAGGED)
        found = list(client.score("steps", path))
        expect_outputs(found, RAGGED, small_models.find("steps"))
        assert [scored.id for scored in found] == [f"row {index}" for index in range(len(RAGGED))]
        assert [scored.id for scored in client.score("steps", path, start=5)] == ["row 5", "row 6"]

    def test_a_pattern_reads_its_files_in_the_order_of_their_names(
        self, client: Client, tmp_path: Path
    ) -> None:
        write(tmp_path / "2.npz", RAGGED[3:])
        write(tmp_path / "1.jsonl", RAGGED[:3])
        expected = [scored.outputs for scored in client.score("last", RAGGED)]
        for start in (0, 2, 3, 5):
            found = list(client.score("last", str(tmp_path / "*"), start=start))
            assert [scored.index for scored in found] == list(range(start, len(RAGGED)))
            np.testing.assert_array_equal([scored.outputs for scored in found], expected[start:])

    def test_npz_of_equal_lengths_and_of_one_array_a_sequence(self, client: Client, tmp_path: Path) -> None:
        batch = np.stack(sequences(4, 4, 4))
        np.savez_compressed(tmp_path / "batch.npz", inputs=batch)
        np.savez(tmp_path / "named.npz", b=batch[0], a=batch[2])
        expected = client.predict("last", batch)
        found = list(client.score("last", tmp_path / "batch.npz"))
        assert [scored.id for scored in found] == [0, 1, 2]
        np.testing.assert_array_equal([scored.outputs for scored in found], expected)
        named = {scored.id: scored.outputs for scored in client.score("last", tmp_path / "named.npz")}
        assert list(named) == ["b", "a"]
        np.testing.assert_array_equal([named["b"], named["a"]], expected[[0, 2]])

    def test_lines_that_hold_no_sequence_fail_alone(self, client: Client, tmp_path: Path) -> None:
        good = json.dumps({"inputs": RAGGED[0].tolist()})
        path = tmp_path / "rows.jsonl"
        path.write_text(f'{good}\n{{"id": 3,\n\n[1]\n{{"id": "x", "input": 1}}\n{good}\n')
        found = list(client.score("last", path))
        assert [scored.error is None for scored in found] == [True, False, False, False, True]
        assert [scored.id for scored in found] == [0, 1, 2, "x", 4]
        assert "line 2" in str(found[1].error)
        expected = 'expected {"id": ..., "inputs": ...}; got '
        assert f"{expected}what is no JSON: " in str(found[1].error)
        assert f"{expected}a list" in str(found[2].error)
        assert f"{expected}the keys 'id', 'input'" in str(found[3].error)

    def test_nulls_in_parquet_fail_alone(self, client: Client, tmp_path: Path) -> None:
        rows = [[[1.0, 2.0, 3.0]], None, [[1.0, 2.0]], [[1.0, 2.0, 3.0]]]
        pq.write_table(pa.table({"inputs": rows}), tmp_path / "rows.parquet")
        found = list(client.score("last", tmp_path / "rows.parquet"))
        assert [scored.error is None for scored in found] == [True, False, False, True]

    @pytest.mark.parametrize("name", ["rows.csv", "rows.npz", "rows.parquet"])
    def test_a_file_of_another_kind_is_told(self, client: Client, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("nothing of that kind")
        with pytest.raises(InvalidInput, match="rows"):
            list(client.score("last", tmp_path / name))

    def test_parts_that_do_not_fit_are_told(self, client: Client, tmp_path: Path) -> None:
        np.savez(tmp_path / "rows.npz", inputs=np.zeros((9, 3)), lengths=[4, 4])
        with pytest.raises(InvalidInput, match="expected 8 time steps"):
            list(client.score("last", tmp_path / "rows.npz"))


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
