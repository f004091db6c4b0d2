"""Checks that result files depend only on the results, not on their division into records."""

import dataclasses
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pyarrow.parquet as pq
import pytest

from statewise.cli._score import ResultLog, format_of
from statewise.client import InvalidInput, ModelInfo, Scored, TensorInfo

KINDS = (".jsonl", ".npz", ".parquet")
STEP = TensorInfo("y", "float32", (2,), per_step=True)
FINAL = TensorInfo("score", "float32", (), per_step=False)
PICTURE = TensorInfo("attention", "int64", (2, 3), per_step=False)


def model(*outputs: TensorInfo, timed: bool = True) -> ModelInfo:
    return ModelInfo(
        name="m",
        version=1,
        digest="",
        status="ready",
        failure="",
        is_default=True,
        exactness="exact",
        inputs=(TensorInfo("x", "float32", (3,), per_step=timed),),
        outputs=outputs,
        call_shapes=(),
        streamable=False,
        state_bytes=0,
        labels=(),
        vocabulary=None,
        generative=False,
        max_steps=0,
        notes={},
    )


def failed(index: int) -> Scored:
    return Scored(index, index, None, InvalidInput("no sequence"))


def results(outputs: tuple[TensorInfo, ...]) -> list[Scored]:
    """Ten rows of 1 to 10 steps; row 4 failed."""
    random = np.random.default_rng(1)

    def values(steps: int) -> dict[str, np.ndarray]:
        return {
            spec.name: (random.random(((steps,) if spec.per_step else ()) + spec.shape) * 9).astype(
                spec.dtype
            )
            for spec in outputs
        }

    rows = [values(index + 1) for index in range(10)]
    found = [
        Scored(index, index, row if len(outputs) > 1 else row[outputs[0].name])
        for index, row in enumerate(rows)
    ]
    return [*found[:4], failed(4), *found[5:]]


def write(folder: Path, kind: str, info: ModelInfo, found: list[Scored], cuts: tuple[int, ...] = ()) -> Path:
    """Logs the results in records that end at `cuts`, and writes the file."""
    chosen = format_of(kind, info)
    path = folder / f"{len(cuts)}{kind}"
    with ResultLog(folder / f"{len(cuts)}.part") as log:
        log.begin(b"a run")
        for begin, end in zip((0, *cuts), (*cuts, len(found)), strict=True):
            payload, _ = chosen.pack(found[begin:end])
            log.append(payload, rows=end - begin, failed=0)
        chosen.write(path, log.payloads)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "outputs",
    [(STEP,), (FINAL,), (PICTURE,), (STEP, FINAL, PICTURE)],
    ids=["steps", "scalar", "matrix", "all"],
)
def test_the_division_into_records_leaves_no_trace(
    tmp_path: Path, kind: str, outputs: tuple[TensorInfo, ...]
) -> None:
    found = results(outputs)
    whole = write(tmp_path, kind, model(*outputs), found).read_bytes()
    # The failed row is a record of its own, so that one record holds no outputs at all.
    assert write(tmp_path, kind, model(*outputs), found, (4, 5, 9)).read_bytes() == whole


def test_npz_holds_what_was_given(tmp_path: Path) -> None:
    outputs = (STEP, FINAL, PICTURE)
    found = results(outputs)
    with np.load(write(tmp_path, ".npz", model(*outputs), found, (3,))) as arrays:
        assert arrays["ids"].tolist() == list(range(10))
        assert arrays["errors"][4] == "InvalidInput: no sequence"
        assert arrays["lengths"].tolist() == [1, 2, 3, 4, 0, 6, 7, 8, 9, 10]
        steps = np.split(arrays["outputs.y"], np.cumsum(arrays["lengths"])[:-1])
        for row, scored in enumerate(found):
            if scored.error is None:
                np.testing.assert_array_equal(steps[row], scored.outputs["y"])
                np.testing.assert_array_equal(arrays["outputs.score"][row], scored.outputs["score"])
                np.testing.assert_array_equal(arrays["outputs.attention"][row], scored.outputs["attention"])
        assert np.isnan(arrays["outputs.score"][4])


def test_parquet_holds_what_was_given(tmp_path: Path) -> None:
    outputs = (STEP, FINAL, PICTURE)
    found = results(outputs)
    table = pq.read_table(write(tmp_path, ".parquet", model(*outputs), found, (3,))).to_pylist()
    for row, scored in zip(table, found, strict=True):
        assert row["id"] == scored.index
        assert row["error"] == (None if scored.error is None else "InvalidInput: no sequence")
        for spec in outputs:
            value = row[f"outputs.{spec.name}"]
            if scored.error is None:
                np.testing.assert_array_equal(np.array(value, spec.dtype), scored.outputs[spec.name])
            else:
                assert value is None


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_texts_are_written_as_text(tmp_path: Path, kind: str) -> None:
    info = model(dataclasses.replace(STEP, per_step=False))
    found = [Scored(0, "a", "left"), Scored(1, 7, "rechts ✓"), failed(2)]
    path = write(tmp_path, kind, info, found, (2,))
    match kind:
        case ".npz":
            with np.load(path) as arrays:
                assert arrays["outputs"].tolist() == ["left", "rechts ✓", ""]
                assert arrays["ids"].tolist() == ["a", "7", "2"]
        case ".parquet":
            assert pq.read_table(path)["outputs"].to_pylist() == ["left", "rechts ✓", None]
        case _:
            assert '"outputs":"rechts ✓"' in path.read_text()
    assert write(tmp_path, kind, info, found).read_bytes() == path.read_bytes()


def test_models_that_take_a_sample_have_no_lengths(tmp_path: Path) -> None:
    info = model(STEP, timed=False)
    found = [Scored(0, 0, np.array([1, 2], np.float32)), failed(1)]
    with np.load(write(tmp_path, ".npz", info, found)) as arrays:
        assert "lengths" not in arrays
        np.testing.assert_array_equal(arrays["outputs"], np.array([[1, 2], [np.nan, np.nan]], np.float32))


def test_a_log_keeps_only_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with ResultLog(path) as log:
        log.begin(b"run")
        for number in range(3):
            log.append(b"record %d" % number, rows=2, failed=1)
    data = path.read_bytes()
    last = len(data) - len(b"record 2")
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with ResultLog(path) as log:
            found = list(log.payloads())
        assert found == [b"record %d" % number for number in range(len(found))]
        assert log.rows == 2 * len(found) == 2 * log.failed
    path.write_bytes(data[:last] + b"forged!")
    with ResultLog(path) as log:
        assert list(log.payloads()) == [b"record 0", b"record 1"]
        log.append(b"anew", rows=1, failed=0)
        assert list(log.payloads()) == [b"record 0", b"record 1", b"anew"]


def test_a_record_counts_though_its_write_was_interrupted(tmp_path: Path) -> None:
    def interrupt(_frame: FrameType, event: str, function: object) -> None:
        if event == "c_return" and getattr(function, "__name__", "") == "write":
            sys.setprofile(None)
            raise KeyboardInterrupt

    path = tmp_path / "output.part"
    with ResultLog(path) as log:
        log.begin(b"identity")
        sys.setprofile(interrupt)
        with pytest.raises(KeyboardInterrupt):
            log.append(b"results", rows=7, failed=2)
        sys.setprofile(None)
        counted = log.rows, log.failed
    with ResultLog(path) as log:
        assert counted == (log.rows, log.failed) == (7, 2)
