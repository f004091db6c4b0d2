"""Reads a user's own files as data sets: npz, csv, text.

The task determines what a file must contain. A faulty file raises a RecipeError that names the file, and the
line or array.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from statewise.models.base import Array, Floats, RecipeError
from statewise.models.datasets._kinds import LabelledSequences, Pairs, Series, Words


def read_series(path: Path, *, columns: Sequence[str], test_fraction: float) -> Series:
    """A recording: a csv with a header and a row a step, or an npz with `values` [T, I].

    Args:
        path: A .csv or .npz file.
        columns: Of the csv to read, in order; empty for all.
        test_fraction: Share at the end that is held out for testing.

    Raises:
        RecipeError: The file is missing, of another kind, or holds a value that is not a finite number.
    """
    if path.suffix == ".npz":
        values = _numbers(path, "values", _arrays(path, ("values",))["values"])
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2:
            raise RecipeError(path, f"values: expected shape [T, I], got {values.shape}")
        names = tuple(f"channel {number}" for number in range(1, values.shape[1] + 1))
    else:
        header, rows = _table(path)
        names = tuple(columns) or header
        values = _columns(path, header, rows, names)
    if len(values) < 2:
        raise RecipeError(path, f"expected at least 2 steps, got {len(values)}")
    split = len(values) - round(test_fraction * len(values))
    return Series(name=path.stem, values=values, split=split, channels=names)


def read_labelled(
    path: Path,
    *,
    label: str,
    sequence: str,
    columns: Sequence[str],
    test_fraction: float,
    seed: int,
) -> LabelledSequences:
    """Labelled sequences: a csv with a header and a row a step, or an npz.

    Args:
        path: A .csv file; or a .npz with `x` [N, T, I], labels [N] and, for ragged sequences, `lengths` [N].
        label: The column or array with the labels.
        sequence: The csv's column with an identifier that all rows of one sequence share; empty if every row
            is a sequence.
        columns: Of the csv to read, in order; empty for all others.
        test_fraction: Share of the sequences drawn at random for testing.
        seed: Of that draw.

    Raises:
        RecipeError: The file is missing, of another kind, its arrays do not fit together, or it holds
            something that is no finite number.
    """
    if path.suffix == ".npz":
        sequences, labels = _labelled_npz(path, label)
    else:
        sequences, labels = _labelled_csv(path, label, sequence, columns)
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise RecipeError(path, f"{label}: expected at least 2 different labels, got {len(names)}")
    order = np.random.default_rng([seed, 5]).permutation(len(sequences))
    count = round(test_fraction * len(sequences))
    test, train = np.sort(order[:count]), np.sort(order[count:])
    return LabelledSequences(
        name=path.stem,
        train=[sequences[index] for index in train],
        train_labels=numbers[train],
        test=[sequences[index] for index in test],
        test_labels=numbers[test],
        label_names=tuple(str(name) for name in names),
    )


def read_words(path: Path) -> Words:
    """Words of a text file: one a line, optionally followed by a tab and a condition.

    Raises:
        RecipeError: The file is missing, not UTF-8, or has no words.
    """
    words, conditions = [], []
    for line in _lines(path):
        word, _, condition = line.partition("\t")
        words.append(word)
        conditions.append(condition or "word")
    names, numbers = np.unique(conditions, return_inverse=True)
    return Words(
        name=path.stem,
        words=tuple(words),
        conditions=numbers,
        condition_names=tuple(str(name) for name in names),
    )


def read_pairs(path: Path) -> Pairs:
    """Pairs of a text file: source, tab, target a line; a side with spaces is split at them, else by letters.

    Raises:
        RecipeError: The file is missing, not UTF-8, or a line has no tab or an empty side.
    """
    sources, targets = [], []
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        source, tab, target = line.partition("\t")
        if not tab or not source.strip() or not target.strip():
            raise RecipeError(path, f"line {number}: expected source, tab, target, got {line!r}")
        sources.append(source.strip())
        targets.append(target.strip())
    return Pairs(name=path.stem, sources=_tokens(sources), targets=_tokens(targets))


def _tokens(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    spaced = any(" " in text for text in texts)
    return tuple(tuple(text.split() if spaced else text) for text in texts)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(path, f"{error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(path, f"expected UTF-8 text, byte {error.start} is not") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise RecipeError(path, "expected at least one line, got none")
    return lines


def _arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise RecipeError(path, f"{error.strerror}") from None
    except Exception as error:
        # The errors of a damaged archive share no base class but Exception.
        raise RecipeError(path, f"expected an .npz archive: {error}") from None
    for name in names:
        if name not in arrays:
            raise RecipeError(path, f"expected an array {name}, got {', '.join(sorted(arrays))}")
    return arrays


def _labelled_npz(path: Path, label: str) -> tuple[list[Floats], Array]:
    arrays = _arrays(path, ("x", label))
    x, labels = np.asarray(arrays["x"]), arrays[label]
    if x.ndim == 2:
        x = x[:, None, :]
    if x.ndim != 3 or labels.shape != x.shape[:1]:
        raise RecipeError(path, f"expected x [N, T, I] and {label} [N], got {x.shape} and {labels.shape}")
    lengths = arrays.get("lengths", np.full(len(x), x.shape[1]))
    if lengths.shape != x.shape[:1] or lengths.min() < 1 or lengths.max() > x.shape[1]:
        raise RecipeError(path, f"lengths: expected {len(x)} numbers from 1 to {x.shape[1]}")
    return [_numbers(path, "x", row[:length]) for row, length in zip(x, lengths, strict=True)], labels


def _labelled_csv(
    path: Path, label: str, sequence: str, columns: Sequence[str]
) -> tuple[list[Floats], Array]:
    header, rows = _table(path)
    for name in (label, *([sequence] if sequence else [])):
        if name not in header:
            raise RecipeError(path, f"expected a column {name}, got {', '.join(header)}")
    names = tuple(columns) or tuple(name for name in header if name not in (label, sequence))
    values = _columns(path, header, rows, names)
    at_label = header.index(label)
    if not sequence:
        return [row[None, :] for row in values], np.array([row[at_label] for row in rows])
    members: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        members.setdefault(row[header.index(sequence)], []).append(number)
    labels = []
    for key, numbers in members.items():
        found = sorted({rows[number][at_label] for number in numbers})
        if len(found) > 1:
            raise RecipeError(path, f"{sequence} {key}: expected one {label}, got {' and '.join(found[:2])}")
        labels.append(found[0])
    return [values[numbers] for numbers in members.values()], np.array(labels)


def _table(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    if path.suffix != ".csv":
        raise RecipeError(path, "expected a .csv or .npz file")
    lines = list(csv.reader(_lines(path)))
    header, rows = tuple(name.strip() for name in lines[0]), lines[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise RecipeError(path, f"line {number}: expected {len(header)} values, got {len(row)}")
    if not rows:
        raise RecipeError(path, "expected rows below the header, got none")
    return header, rows


def _columns(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str]
) -> Floats:
    unknown = next((name for name in names if name not in header), None)
    if unknown is not None:
        raise RecipeError(path, f"expected a column {unknown}, got {', '.join(header)}")
    values = np.empty((len(rows), len(names)), np.float32)
    for column, name in enumerate(names):
        index = header.index(name)
        for number, row in enumerate(rows):
            try:
                values[number, column] = float(row[index])
            except ValueError:
                raise RecipeError(
                    path, f"line {number + 2}, {name}: expected a number, got {row[index]!r}"
                ) from None
            if not np.isfinite(values[number, column]):
                raise RecipeError(
                    path, f"line {number + 2}, {name}: expected a finite number, got {row[index]}"
                )
    return values


def _numbers(path: Path, name: str, values: Array) -> Floats:
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
        raise RecipeError(path, f"{name}: expected numbers, got {values.dtype}")
    numbers = values.astype(np.float32)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        where = tuple(int(index) for index in bad[0])
        raise RecipeError(path, f"{name}: expected finite numbers, got {numbers[where]} at {list(where)}")
    return numbers
