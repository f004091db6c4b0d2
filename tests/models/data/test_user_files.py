"""Reads files as other programs write them: each is read right, or refused in one line with its place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statewise.models import RecipeError, load_recipe, train
from statewise.models.datasets import read_labelled, read_pairs, read_series, read_words

ROWS = "current,load\n0.5,1\n0.25,2\n0.125,3\n"
VALUES = [[0.5, 1], [0.25, 2], [0.125, 3]]


def written(folder: Path, content: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def series(path: Path, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(read_series(path, **{"columns": (), "test_fraction": 0.0, **options}).values)


def labelled(path: Path, **options: Any) -> tuple[list[list[Any]], list[str]]:
    """Sequences and their labels, in the order of the file."""
    given = {"label": "label", "sequence": "", "columns": (), "test_fraction": 0.0, "seed": 0}
    data = read_labelled(path, **{**given, **options})
    return [part.tolist() for part in data.train], [data.label_names[n] for n in data.train_labels]


def refusal(read: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        read(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text.partition(": ")[2]


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        "\ufeff" + ROWS,
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("\n", "\n\n"),
        "\n" + ROWS,
        ROWS.replace("current", '" current"'),
        ROWS.replace("0.25", '"0.25"'),
    ],
    ids=["plain", "byte order mark", "crlf", "blank lines", "blank first line", "quotes", "quoted number"],
)
@pytest.mark.parametrize("name", ["x.csv", "X.CSV"])
def test_a_csv_of_any_program_gives_the_same_numbers(tmp_path: Path, content: str, name: str) -> None:
    path = written(tmp_path, content, name)
    assert series(path).tolist() == VALUES
    assert series(path, columns=("load", "current")).tolist() == [[b, a] for a, b in VALUES]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "0.5,1\n0.25,2\n",
            "line 1: expected a header of names, got the numbers 0.5, 1; if they are names, ",
        ),
        ("load,load\n1,2\n3,4\n", "line 1: columns 1 and 2 have the name load"),
        ("load,\n1,2\n3,4\n", "line 1: column 2 has no name; list those to read in data.columns"),
        (",\n1,2\n3,4\n", "line 1: column 1 has no name"),
        ("a\n\n1\n\ntwo\n", "line 5, a: expected a number, got 'two'"),
        ('"a\n(A)"\n1\ntwo\n', "line 4, a (A): expected a number, got 'two'"),
        ("a\n1e39\n2\n", "line 2, a: expected a finite float32 number, got 1e39"),
        ("a\n-inf\n2\n", "line 2, a: expected a finite float32 number, got -inf"),
        (
            "a\n" + "9" * 60 + "x\n2\n",
            "line 2, a: expected a number, got '9999999999999999999999999999999999999...",
        ),
        (
            "a;b\n1;2\n",
            "line 2, a;b: expected a number, got '1;2'; columns must be separated by commas, not semi",
        ),
        (
            "a;b\n1,5;2\n",
            "line 2: expected 1 values, got 2; columns must be separated by commas, not semicolons",
        ),
        ("a\tb\n1\t2\n", "got '1\\t2'; columns must be separated by commas, not tabs"),
        (
            "t,a\n2024-01-01,1\n",
            "line 2, t: expected a number, got '2024-01-01'; data.time names a column of times",
        ),
        ('a\n1\n"2\n3\n', "line 3: not a row of a csv: unexpected end of data"),
        ("a\n1\n" + "2" * 200_000, "line 3: not a row of a csv: field larger than field limit"),
        (ROWS.encode("utf-16"), "expected UTF-8 text, got UTF-16"),
        ("a\nä\n".encode("latin-1"), "line 2: expected UTF-8 text, byte 2 is not"),
        ("", "expected at least one line, got none"),
    ],
)
def test_a_fault_of_a_csv_is_told_with_its_place(tmp_path: Path, content: str | bytes, message: str) -> None:
    told = refusal(series, written(tmp_path, content))
    assert " ".join(told.split()).startswith(message) or message in told, told


def test_a_header_of_numbers_is_one_if_the_recipe_names_it(tmp_path: Path) -> None:
    assert series(written(tmp_path, "0,1\n5,6\n7,8\n"), columns=("1",)).tolist() == [[6], [8]]


def test_columns_that_are_not_read_may_hold_anything(tmp_path: Path) -> None:
    path = written(tmp_path, "load,note,note,\n1,x,y,\n2,,,\n")
    assert series(path, columns=("load",)).tolist() == [[1], [2]]
    assert refusal(series, path, columns=("load", "load")) == "data.columns lists load twice"
    assert refusal(series, path, columns=("note",)) == "line 1: columns 2 and 3 have the name note"


GAPS = "a,b\n1,10\nNA,20\n3,\n5,40\n"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("previous", [[1, 10], [1, 20], [3, 20], [5, 40]]),
        ("interpolate", [[1, 10], [2, 20], [3, 30], [5, 40]]),
        ("drop", [[1, 10], [5, 40]]),
    ],
)
def test_missing_values_are_treated_as_the_recipe_says(
    tmp_path: Path, rule: str, expected: list[list[float]]
) -> None:
    assert series(written(tmp_path, GAPS), missing=rule).tolist() == expected
    values = np.array([[1, 10], [np.nan, 20], [3, np.nan], [5, 40]])
    np.savez(tmp_path / "x.npz", values=values)
    assert series(tmp_path / "x.npz", missing=rule).tolist() == expected


@pytest.mark.parametrize("word", ["", " ", "NaN", "nan", "NA", "n/a", "null", "None", "?", "-"])
def test_every_word_for_a_missing_value_is_told_as_one(tmp_path: Path, word: str) -> None:
    path = written(tmp_path, f"a,b\n1,2\n3,{word}\n")
    other = "data.missing can be previous, interpolate or drop"
    assert refusal(series, path) == f"line 3, b: a value is missing; {other}"
    np.savez(tmp_path / "x.npz", values=np.array([[1, 2], [3, np.nan]]))
    told = refusal(series, tmp_path / "x.npz")
    assert told == f"values, step 1, channel 2: a value is missing; {other}"


def test_what_cannot_be_filled_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\n,1\n2,1\n")
    assert refusal(series, path, missing="previous").startswith("line 2, a: a value is missing, and none is")
    path = written(tmp_path, "a,b\n,1\n,1\n")
    assert refusal(series, path, missing="interpolate").startswith("line 2, a: all values of the sequence")


TIMED = "when,a\n{0},1\n{1},2\n{2},4\n"


@pytest.mark.parametrize(
    "times",
    [
        ("0", "10", "20"),
        ("2024-01-31", "2024-02-29", "2024-03-31"),
        ("2024-01-01T00:00Z", "2024-01-01T01:00Z", "2024-01-01T03:00+01:00"),
    ],
)
def test_a_column_of_times_is_no_input(tmp_path: Path, times: tuple[str, ...]) -> None:
    assert series(written(tmp_path, TIMED.format(*times)), time="when").tolist() == [[1], [2], [4]]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("previous", [1, 2, 2, 2, 4, 5]), ("interpolate", [1, 2, 8 / 3, 10 / 3, 4, 5]), ("drop", [1, 2, 4, 5])],
)
def test_steps_that_the_times_leave_out_are_missing(tmp_path: Path, rule: str, expected: list[float]) -> None:
    path = written(tmp_path, "when,a\n0,1\n10,2\n40,4\n50.5,5\n")
    assert series(path, time="when", missing=rule)[:, 0].tolist() == pytest.approx(expected)
    assert refusal(series, path, time="when").startswith(
        "line 4, when: 2 steps are missing before this row, by the usual interval of 10.5; data."
    )


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("0", "10", "10"), "line 4, when: expected a later time than that of the row before"),
        (("0", "10", "5"), "line 4, when: expected a later time than that of the row before"),
        (("0", "", "5"), "line 3, when: expected a text, got none"),
        (("0", "1", "noon"), "line 4, when: expected a number or a time as 2024-01-31T12:00, got 'noon'"),
        (("0", "1", "2", "3", "1e300"), "when: far more steps are missing than there are"),
    ],
)
def test_times_that_are_none_are_told(tmp_path: Path, times: tuple[str, ...], message: str) -> None:
    content = "".join(f"{time},1\n" for time in ("when", *times)).replace("when,1", "when,a")
    assert refusal(series, written(tmp_path, content), time="when", missing="previous") == message


def test_labelled_rows_are_completed_within_their_sequence(tmp_path: Path) -> None:
    rows = "id,t,a,label\np,0,1,up\nq,0,7,down\np,1,,up\np,2,3,up\np,4,5,up\nq,1,8,down\nq,2,9, down\n"
    options: dict[str, Any] = {"sequence": "id", "time": "t"}
    path = written(tmp_path, rows)
    sequences, labels = labelled(path, **options, missing="previous")
    assert sequences == [[[1], [1], [3], [3], [5]], [[7], [8], [9]]]
    assert labels == ["up", "down"]
    told = refusal(labelled, path, **options)
    assert told.startswith("line 6, t: 1 step is missing before this row")
    single = written(tmp_path, "a,label\n1,x\n,y\n3,y\n")
    assert labelled(single, missing="drop") == ([[[1]], [[3]]], ["x", "y"])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,label\n1,x\n2,\n", {}, "line 3, label: expected a text, got none"),
        ("a,label\n1,x\n2,y\n", {"columns": ("a", "label")}, "data.columns lists label, which is the label"),
        ("a,label\n1,x\n2,y\n", {"sequence": "id"}, "expected a column id, got a, label"),
        ("label\nx\ny\n", {}, "expected columns of numbers, got only label"),
        (
            "a,label\n1,x\n2,y\n",
            {"test_fraction": 0.2},
            "data.test_fraction = 0.2: of 2 sequences, this share",
        ),
        (
            "a,label\n1,x\n2,y\n",
            {"test_fraction": 0.9},
            "data.test_fraction = 0.9: of 2 sequences, this leaves",
        ),
    ],
)
def test_a_fault_of_labelled_rows_is_told(
    tmp_path: Path, content: str, options: dict[str, Any], message: str
) -> None:
    assert refusal(labelled, written(tmp_path, content), **options).startswith(message)


CUBE = np.arange(24.0).reshape(3, 4, 2)
LABELS = np.array(["x", "y", "x"])
LENGTHS = np.array([4, 1, 2])
RAGGED = [part[:length] for part, length in zip(CUBE, LENGTHS, strict=True)]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": CUBE, "lengths": LENGTHS},
        {"inputs": CUBE, "lengths": LENGTHS},
        {"inputs": np.concatenate(RAGGED), "lengths": LENGTHS, "ids": np.array(list("abc"), object)},
        {"inputs": np.asfortranarray(np.concatenate(RAGGED)), "lengths": LENGTHS.astype(np.float64)},
        {"x": np.asfortranarray(CUBE.astype(">f4")), "lengths": LENGTHS.astype(np.uint8)},
        {"first": RAGGED[0], "second": RAGGED[1].astype(np.int16), "third": np.asfortranarray(RAGGED[2])},
    ],
    ids=["x", "inputs", "packed", "packed Fortran", "big-endian Fortran", "an array each"],
)
def test_the_layouts_of_score_train_too(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "x.npz", **arrays, label=LABELS)
    sequences, labels = labelled(tmp_path / "x.npz")
    assert sequences == [part.tolist() for part in RAGGED]
    assert labels == LABELS.tolist()


@pytest.mark.parametrize(
    "arrays",
    [{"values": CUBE[0]}, {"inputs": CUBE[0]}, {"inputs": CUBE[:1]}, {"walk": np.asfortranarray(CUBE[0])}],
    ids=["values", "inputs", "inputs of one", "the only array"],
)
def test_a_series_may_be_in_a_layout_of_score(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert series(tmp_path / "x.npz").tolist() == CUBE[0].tolist()


OBJECTS = np.empty(3, object)
OBJECTS[:] = RAGGED


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": OBJECTS, "label": LABELS}, "x: expected an array of numbers or texts, got one of "),
        ({"x": CUBE, "label": LABELS.astype(object)}, "label: expected an array of numbers or texts"),
        ({"x": CUBE.astype(complex), "label": LABELS}, "x: expected numbers, got complex128"),
        ({"x": CUBE * 1e300, "label": LABELS}, "x: expected finite float32 numbers, got 1e+300 at [0, 0, 1]"),
        ({"x": CUBE[:0], "label": LABELS[:0]}, "expected x [N, T, I] and label [N], got (0, 4, 2) and (0,)"),
        ({"x": CUBE[:, :0], "label": LABELS}, "expected x [N, T, I] and label [N], got (3, 0, 2) and (3,)"),
        ({"x": 3.0, "label": LABELS}, "expected x [N, T, I] and label [N], got () and (3,)"),
        ({"x": CUBE, "label": LABELS, "lengths": [1, 2]}, "lengths: expected 3 numbers from 1 to 4"),
        ({"x": CUBE, "label": LABELS, "lengths": [1, 2, 1.5]}, "lengths: expected whole numbers"),
        ({"x": CUBE, "label": LABELS, "lengths": [1, 2, -1]}, "lengths: expected whole numbers"),
        ({"a": CUBE[0], "b": CUBE[0][:, :1], "label": LABELS[:2]}, "b: expected 2 features, got 1"),
        ({"a": CUBE[0], "b": CUBE[0], "label": LABELS}, "label: expected a label for each of 2"),
        ({"a": 3.0, "label": LABELS}, "a: expected shape [T, I], got ()"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_told(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert refusal(labelled, tmp_path / "x.npz").startswith(message)


def test_options_of_a_csv_are_refused_for_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", values=CUBE[0])
    assert refusal(series, tmp_path / "x.npz", columns=("a",)).startswith("data.columns: expected a .csv")
    assert refusal(series, tmp_path / "x.npz", time="t").startswith("data.time: expected a .csv")
    np.save(tmp_path / "y.npy", CUBE[0])
    (tmp_path / "y.npy").rename(tmp_path / "y.npz")
    assert refusal(series, tmp_path / "y.npz").startswith("expected an .npz archive")


def test_words_with_and_without_conditions(tmp_path: Path) -> None:
    words = read_words(written(tmp_path, "\ufeffone\r\n\r\ntwo\u2028half\r\n"))
    assert words.words == ("one", "two\u2028half")
    words = read_words(written(tmp_path, "one\ta\ntwo\tb\n"))
    assert (words.words, words.condition_names) == (("one", "two"), ("a", "b"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "def f():\n\treturn 1\n",
            "line 1: expected a word, a tab and its condition, as in other lines, got 'def",
        ),
        ("\treturn 1\n", "line 1: expected a word, a tab and its condition"),
        ("one\ta\n\ntwo\n", "line 3: expected a word, a tab and its condition"),
        ("one\ta\tb\n", "line 1: expected a word, a tab and its condition"),
        ("".join(f"word\t{n}\n" for n in range(300)), "expected at most 256 different conditions, got 300"),
        (
            "one\n" + "x" * 10_001,
            "line 2: expected at most 10,000 characters, got 10,001; each line is trained",
        ),
    ],
)
def test_tabs_and_long_lines_of_words_are_told(tmp_path: Path, content: str, message: str) -> None:
    assert refusal(read_words, written(tmp_path, content, "x.txt")).startswith(message)


@pytest.mark.parametrize(
    ("content", "line"), [("a\tb\n\n\nc\n", 4), ("a\tb\tc\n", 1), ("a\t \n", 1), ("\ta\n", 1)]
)
def test_pairs_are_two_sides_a_line(tmp_path: Path, content: str, line: int) -> None:
    told = refusal(read_pairs, written(tmp_path, content, "x.txt"))
    assert told.startswith(f"line {line}: expected source, tab, target, got ")


def recipe(task: str, source: Path, data: str = "", settings: str = "batch_size = 4") -> Path:
    path = source.with_name("mine.toml")
    path.write_text(
        f'task = "{task}"\n[data]\nsource = "{source.name}"\n{data}\n'
        f"[network]\nhidden_size = 4\n[train]\nepochs = 1\n{settings}\n"
    )
    return path


WORDS = "".join(f"{'ab' * n}c\n" for n in range(1, 6))
PAIRS = "".join(f"{'ab' * n}\t{'xy' * n}\n" for n in range(1, 6))
WAVE = "a\n" + "".join(f"{np.sin(t / 3):.3f}\n" for t in range(40))
CASES = "a,label\n" + "".join(f"{n},{'xy'[n % 2]}\n" for n in range(6))


@pytest.mark.parametrize(
    ("task", "content", "data", "settings", "message"),
    [
        ("language", "one long line\n", "", "", "data.test_fraction = 0.2: of 1 different words, this"),
        ("language", "a\nb\n", "test_fraction = 0.9", "", "data.test_fraction = 0.9: of 2 different words"),
        ("language", WORDS, "validation_fraction = 0.1", "", "data.validation_fraction = 0.1: of 4 dif"),
        ("transduce", "a\tb\n", "", "", "data.test_fraction = 0.2: of 1 different sources"),
        ("transduce", PAIRS, "test_count = 5", "", "data.test_count = 5: of 5 different sources"),
        ("classify", CASES, "test_fraction = 0\nvalidation_fraction = 0.05", "", "data.validation"),
        ("classify", CASES, "test_fraction = 0\nfolds = 7", "", "data.folds = 7: expected at most 6"),
        ("forecast", WAVE, "test_fraction = 0.01", "window = 2", "data.test_fraction = 0.01: of 40"),
        ("forecast", WAVE, "", "window = 9\nbatch_size = 4",
         "train.window = 9: expected at most 7: the series has 32 steps to train on, cut into 4"),
        ("forecast", WAVE, "", "window = 1\nbatch_size = 32",
         "train.batch_size = 32: expected at most 31: the series has 32 steps to train on"),
    ],
)  # fmt: skip
def test_parts_that_would_be_empty_are_told(
    tmp_path: Path, task: str, content: str, data: str, settings: str, message: str
) -> None:
    name = "x.csv" if task in ("classify", "forecast") else "x.txt"
    path = recipe(task, written(tmp_path, content, name), data, settings)
    assert refusal(train, load_recipe(path), tmp_path / "out").startswith(message)


@pytest.mark.parametrize("count", [2, 3, 11])
def test_a_few_words_are_measured_against_trigrams(tmp_path: Path, count: int) -> None:
    words = "".join(f"{'ab' * n}c\n" for n in range(1, count + 1))
    path = recipe("language", written(tmp_path, words, "x.txt"), "test_fraction = 0.5")
    metrics = train(load_recipe(path), tmp_path / "out").metrics
    assert 0 < metrics["baseline_bits_per_char"] < 10


def test_the_options_of_a_recipe_reach_the_file(tmp_path: Path) -> None:
    rows = "".join(f"{t},{'' if t == 7 else t % 5}\n" for t in range(100) if t != 50)
    path = recipe(
        "forecast",
        written(tmp_path, "t,a\n" + rows),
        'time = "t"\nmissing = "previous"',
        "window = 8\nbatch_size = 2",
    )
    assert np.isfinite(train(load_recipe(path), tmp_path / "out").metrics["rmse"])
    with pytest.raises(RecipeError, match=r"data.missing = 'guess': expected one of refuse, previous, inter"):
        load_recipe(path, {"data.missing": "guess"})
