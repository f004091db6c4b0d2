"""Checks the files that `score` reads: every kind, several of them, streams, and what is wrong with them."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.client.calls.scored import RAGGED, expect_outputs, write
from tests.client.samples import sequences
from tests.helpers.models.small import SmallModels

from statewise.client import Client, InvalidInput, SampleFiles


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

    @pytest.mark.parametrize("name", ["rows.txt", "rows.npz", "rows.parquet"])
    def test_a_file_of_another_kind_is_told(self, client: Client, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("nothing of that kind")
        with pytest.raises(InvalidInput, match="rows"):
            list(client.score("last", tmp_path / name))

    def test_parts_that_do_not_fit_are_told(self, client: Client, tmp_path: Path) -> None:
        np.savez(tmp_path / "rows.npz", inputs=np.zeros((9, 3)), lengths=[4, 4])
        with pytest.raises(InvalidInput, match="expected 8 time steps"):
            list(client.score("last", tmp_path / "rows.npz"))

    def test_several_files_and_a_csv(self, client: Client, small_models: SmallModels, tmp_path: Path) -> None:
        first = write(tmp_path / "first.npz", RAGGED[:3])
        lines = [
            f"{index},{a!r},{b!r},{c!r}" for index, row in enumerate(RAGGED[3:]) for a, b, c in row.tolist()
        ]
        second = tmp_path / "second.csv"
        second.write_text("\n".join(["speaker,a,b,c", *lines[::-1]]))
        files = SampleFiles(first, str(tmp_path / "*.csv"), sequence="speaker", columns=["a", "b", "c"])
        assert files.paths == (first, second)
        found = list(client.score("steps", files))
        wanted = [*RAGGED[:3], *(row[::-1] for row in RAGGED[:2:-1])]  # the lines are in reverse
        expect_outputs(found, wanted, small_models.find("steps"))
        assert [scored.id for scored in found] == ["row 0", "row 1", "row 2", "3", "2", "1", "0"]
        assert [scored.file for scored in found] == [str(first)] * 3 + [str(second)] * 4
        assert [scored.line for scored in found[:4]] == [None, None, None, 2]
        assert [scored.id for scored in client.score("steps", files, start=5)] == ["1", "0"]

    def test_a_csv_without_ids_is_one_sequence_or_one_a_row(
        self, client: Client, small_models: SmallModels, tmp_path: Path
    ) -> None:
        path = tmp_path / "walk.csv"
        path.write_text("a,b,c\n" + "".join(",".join(map(repr, row)) + "\n" for row in RAGGED[0].tolist()))
        (scored,) = client.score("steps", path)
        expect_outputs([scored], RAGGED[:1], small_models.find("steps"))
        assert (scored.id, scored.line) == ("walk", 2)
        rows = list(client.score("steps", SampleFiles(path, sequence="")))
        expect_outputs(rows, list(RAGGED[0][:, np.newaxis]), small_models.find("steps"))
        assert [scored.id for scored in rows] == list(range(len(RAGGED[0])))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "expected a header"),
            ("a,b,c\n", "expected rows below the header"),
            ("1,2,3\n4,5,6\n", "got the numbers 1, 2, 3"),
            ("a,a,b\n1,2,3\n", "'a' is there 2 times"),
            ("a,,b\n1,2,3\n", "'' has no name"),
            ("\0a\0,\0b\n1,2\n", "expected UTF-8 text"),
        ],
    )
    def test_a_csv_without_usable_columns_is_told(
        self, client: Client, tmp_path: Path, text: str, message: str
    ) -> None:
        (tmp_path / "rows.csv").write_text(text)
        with pytest.raises(InvalidInput, match=message):
            list(client.score("steps", tmp_path / "rows.csv"))

    def test_a_cell_that_is_no_number_spoils_its_row(self, client: Client, tmp_path: Path) -> None:
        lines = ["a,b,c", "1,2,x", "1,,3", "1,2", '1,"2\n",3', "1,2,1e999", '1,2,"3', "1,2,3"]
        (tmp_path / "rows.csv").write_text("\n".join(lines))
        found = list(client.score("steps", SampleFiles(tmp_path / "rows.csv", sequence="")))
        assert [str(scored.error).removeprefix("rows.csv, ") for scored in found if scored.error] == [
            "line 2: c: expected a number; got 'x'",
            "line 3: b: expected a number; a value is missing: ''",
            "line 4: expected 3 cells as in the header; got 2",
            "line 7: c: expected a finite number; got '1e999'",
            "line 8: expected a row of a csv: unexpected end of data",
        ]

    def test_columns_that_the_model_does_not_take_are_listed(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("a,b,c,d\n1,2,3,4\n")
        (scored,) = client.score("steps", tmp_path / "rows.csv")
        assert "expected 3 columns; got 4: a, b, c, d; columns= chooses" in str(scored.error)

    def test_a_stream_of_lines(self, client: Client, small_models: SmallModels) -> None:
        lines = b"".join(json.dumps({"inputs": row.tolist()}).encode() + b"\n" for row in RAGGED)
        found = list(client.score("steps", io.BytesIO(b"\xef\xbb\xbf" + lines)))
        expect_outputs(found, RAGGED, small_models.find("steps"))
        with pytest.raises(InvalidInput, match="a stream of bytes"):
            client.score("steps", io.StringIO("[]"))

    def test_a_compressed_file_that_ends_early_is_told(self, client: Client, tmp_path: Path) -> None:
        path = write(tmp_path / "rows.jsonl", RAGGED)
        packed = tmp_path / "rows.jsonl.gz"
        packed.write_bytes(gzip.compress(path.read_bytes())[:-20])
        with pytest.raises(InvalidInput, match="expected a whole gzip file"):
            list(client.score("steps", packed))

    def test_long_integers_stay_ids(self, client: Client, tmp_path: Path) -> None:
        line = {"id": 12345678901234567890123, "inputs": RAGGED[0].tolist()}
        (tmp_path / "rows.jsonl").write_text(json.dumps(line))
        (scored,) = client.score("last", tmp_path / "rows.jsonl")
        assert scored.id == line["id"]

    def test_files_that_are_none_are_told(self, tmp_path: Path) -> None:
        path = write(tmp_path / "rows.jsonl", RAGGED)
        for words, options, message in (
            ((), {}, "got none"),
            ((path, str(tmp_path / "*.jsonl")), {}, "named twice"),
            ((path,), {"columns": ["a"]}, "expected a .csv"),
            ((path,), {"columns": "a"}, "expected a list"),
            ((7,), {}, "got int"),
        ):
            with pytest.raises(InvalidInput, match=message):
                SampleFiles(*words, **options)


_PARSE = """
import json, sys
if sys.argv[1] == "python":
    sys.modules["orjson"] = None
from statewise.client.bulk._json import parse_json
for line in sys.stdin.buffer:
    try:
        print(repr(parse_json(line)))
    except ValueError as error:
        print(error)
"""


def test_lines_are_the_same_with_and_without_orjson() -> None:
    lines = [
        b'{"id": 1}',
        b"[1, 2.5, -0.0, 1e400]",
        b"[NaN]",
        b'"\\ud800"',
        b'"\xff"',
        b"[",
        b"[1] 2",
        b"[" * 9000,
    ]
    found = [
        subprocess.run(
            [sys.executable, "-c", _PARSE, name], input=b"\n".join(lines), capture_output=True, check=True
        ).stdout
        for name in ("orjson", "python")
    ]
    assert found[0] == found[1]
    assert found[0].count(b"\n") == len(lines)
