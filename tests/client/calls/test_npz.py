"""Scores .npz files of every layout and element type: each is read right, or refused in one clear line."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.samples import sequences

from statewise.client import Client, InvalidInput

ROWS = sequences(4, 7, 2)
FLAT = np.concatenate(ROWS)
CUBE = np.stack([row[:2] for row in ROWS])
LENGTHS = np.array([4, 7, 2])


def objects(*elements: object) -> Any:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


READ: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "Fortran order": ({name: np.asfortranarray(row) for name, row in zip("abc", ROWS, strict=True)}, ROWS),
    "packed Fortran order": ({"inputs": np.asfortranarray(FLAT), "lengths": LENGTHS}, ROWS),
    "Fortran order of equal lengths": ({"inputs": np.asfortranarray(CUBE)}, list(CUBE)),
    "not contiguous": ({"a": np.repeat(ROWS[0], 2, axis=1)[:, ::2]}, ROWS[:1]),
    "big-endian": ({"inputs": CUBE.astype(">f4")}, list(CUBE)),
    "float64": ({"inputs": CUBE.astype(float)}, list(CUBE)),
    "integers": ({"inputs": np.arange(9).reshape(1, 3, 3)}, [np.arange(9).reshape(3, 3)]),
    "lengths as floats": ({"inputs": FLAT, "lengths": LENGTHS.astype(float)}, ROWS),
    "lengths of one byte": ({"inputs": FLAT, "lengths": LENGTHS.astype(np.uint8)}, ROWS),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read(client: Client, tmp_path: Path, name: str) -> None:
    arrays, rows = READ[name]
    np.savez(tmp_path / "x.npz", **arrays)
    for start in (0, len(rows) - 1):
        found = [scored.outputs for scored in client.score("steps", tmp_path / "x.npz", start=start)]
        expected = client.predict("steps", rows[start:])
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "objects": (
        {"inputs": CUBE.astype(object)},
        "expected numbers or texts in 'inputs'; got objects of Python .*: store each sequence",
    ),
    "ragged objects": ({"inputs": objects(*ROWS)}, "expected numbers or texts in 'inputs'; got objects"),
    "ids as objects": ({"inputs": CUBE, "ids": objects(*"abc")}, "expected numbers or texts in 'ids'"),
    "lengths as objects": (
        {"inputs": FLAT, "lengths": objects(4, 7, 2)},
        "expected numbers or texts in 'len",
    ),
    "ids in a square": (
        {"inputs": CUBE, "ids": np.zeros((3, 1))},
        r"expected 'ids' \[N\]; got shape \[3, 1\]",
    ),
    "negative length": ({"inputs": FLAT, "lengths": np.array([4, 12, -3])}, "numbers of 0 or more; got -3"),
    "half a length": ({"inputs": FLAT, "lengths": LENGTHS / 2}, "whole numbers of 0 or more; got float64"),
    "length NaN": ({"inputs": FLAT, "lengths": LENGTHS * np.nan}, "whole numbers of 0 or more; got float64"),
    "one length": ({"inputs": FLAT, "lengths": np.array(13)}, r"got int64 of shape \[\]"),
    "single value": ({"inputs": np.float32(3)}, "expected rows in 'inputs'; got a single value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_is_one_error(client: Client, tmp_path: Path, name: str) -> None:
    arrays, message = REFUSED[name]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InvalidInput, match=rf"^x\.npz: .*{message}"):
        list(client.score("steps", tmp_path / "x.npz"))


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "objects": (ROWS[0].astype(object), r"x\.npz: expected numbers or texts in 'b'; got objects"),
    "texts": (np.array([["a", "b", "c"]]), r"expected numbers; got text \('a'\)"),
    "complex": (ROWS[0].astype(np.complex64), "expected numbers; got elements of type complex64"),
    "structured": (np.zeros(4, [("u", "f4"), ("v", "f4")]), "expected numbers; got elements of type"),
    "single value": (np.float32(3), r"got float32 of shape \[\]"),
    "NaN": (np.array([[0, 0, 0], [0, np.nan, 0]]), r"a missing value \(nan\) at step 1, column 1"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_sequence_that_cannot_be_read_fails_in_its_place(client: Client, tmp_path: Path, name: str) -> None:
    array, message = BAD_ROWS[name]
    np.savez(tmp_path / "x.npz", a=ROWS[0], b=array, c=ROWS[2])
    first, bad, last = client.score("steps", tmp_path / "x.npz")
    assert (first.error, last.error) == (None, None)
    with pytest.raises(InvalidInput, match=message):
        raise bad.error or AssertionError("it was read")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array(["a", "b", "c"]), ["a", "b", "c"]),
        (np.array([b"a", b"\xff", b"c"]), ["a", "\ufffd", "c"]),
        (np.array([7, 8, 9]), [7, 8, 9]),
        (np.array(["2026-01-01"] * 3, "M8[D]"), ["2026-01-01"] * 3),
    ],
)
def test_ids_are_texts_or_numbers(client: Client, tmp_path: Path, ids: Any, expected: list[object]) -> None:
    np.savez(tmp_path / "x.npz", inputs=CUBE, ids=ids)
    assert [scored.id for scored in client.score("steps", tmp_path / "x.npz")] == expected


def test_a_file_that_ends_early_is_told(client: Client, tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, FLAT)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("inputs.npy", whole.getvalue()[:-20])
        archive.writestr("notes.txt", "no array")
        lengths = io.BytesIO()
        np.save(lengths, LENGTHS)
        archive.writestr("lengths.npy", lengths.getvalue())
    for start in (0, 2):
        with pytest.raises(InvalidInput, match=r"^x\.npz: 'inputs' cannot be read: the file ends early$"):
            list(client.score("steps", tmp_path / "x.npz", start=start))


def test_a_damaged_array_fails_in_its_place(client: Client, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", b"no array")
        archive.writestr("notes.txt", "no array")
    (bad,) = client.score("steps", tmp_path / "x.npz")
    assert bad.id == "a"
    assert str(bad.error).startswith("x.npz: 'a' cannot be read: ")
