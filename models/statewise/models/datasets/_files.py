"""Reads a user's own files as data sets: npz, csv, text.

The task determines what a file must contain. A faulty file raises a RecipeError that names the file, and the
line or array.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from statewise.models.base import Array, Floats, RecipeError
from statewise.models.datasets._archive import Archive
from statewise.models.datasets._held_out import held_out_count
from statewise.models.datasets._kinds import LabelledSequences, Pairs, Series, Words
from statewise.models.datasets._missing import MissingRule, Where, complete, with_gaps
from statewise.models.datasets._table import Table, named_by_header, read_table
from statewise.models.datasets._text_file import excerpt, read_lines

# Each condition becomes a token. A file with more conditions probably has tabs for another purpose.
_MOST_CONDITIONS = 256


def read_series(
    path: Path,
    *,
    columns: Sequence[str],
    test_fraction: float,
    time: str = "",
    missing: MissingRule = "refuse",
) -> Series:
    """Reads a recording from a csv with a header and a row a step, or from an npz with `values` [T, I].

    Args:
        path: A .csv or .npz file.
        columns: The csv's columns to read, in order; empty for all.
        test_fraction: Share at the end that is held out for testing.
        time: The csv's column with the time of each row, which is not read as a value; empty for none.
        missing: What to do about missing values, and about steps missing where the times have a gap.

    Raises:
        RecipeError: The file is missing, of another kind, or holds a value that is not a finite number.
    """
    if path.suffix.lower() == ".npz":
        _refuse_for_npz(path, columns=columns, time=time)
        array, values = Archive(path).series()
        names = tuple(f"channel {number}" for number in range(1, values.shape[1] + 1))
        values = complete(path, values, names, missing, lambda row, name: f"{array}, step {row}, {name}")
    else:
        table = read_table(path)
        names = _names(table, columns, without=[time] if time else [])
        values = table.numbers(names)
        if time:
            values = with_gaps(path, values, table.times(time), time, missing, table.where)
        values = complete(path, values, names, missing, table.where)
    if len(values) < 2:
        raise RecipeError(path, f"expected at least 2 steps, got {len(values)}")
    split = len(values) - held_out_count(
        len(values), test_fraction, source=path, key="data.test_fraction", noun="steps"
    )
    return Series(name=path.stem, values=values, split=split, channels=names)


def read_labelled(
    path: Path,
    *,
    label: str,
    sequence: str,
    columns: Sequence[str],
    test_fraction: float,
    seed: int,
    time: str = "",
    missing: MissingRule = "refuse",
) -> LabelledSequences:
    """Reads labelled sequences from a csv with a header and a row a step, or from an npz.

    Args:
        path: A .csv file; or a .npz with labels [N] and sequences: `x` or `inputs`, padded to [N, T, I] or
            packed to [sum(lengths), I], with `lengths` [N]; or an array for each sequence.
        label: The column or array with the labels.
        sequence: The csv's column with an identifier that all rows of one sequence share; empty if every row
            is a sequence.
        columns: The csv's columns to read, in order; empty for all others.
        test_fraction: Share of the sequences drawn at random for testing.
        seed: Seed of the random draw.
        time: The csv's column with the time of each row, which is not read as a value; empty for none.
        missing: What to do about missing values, and about steps missing where a sequence's times have a gap.
            A sequence that "drop" leaves without a step is left out.

    Raises:
        RecipeError: The file is missing or of another kind, its arrays do not fit together, or a value is not
            a finite number.
    """
    if path.suffix.lower() == ".npz":
        _refuse_for_npz(path, columns=columns, time=time, sequence=sequence)
        sequences, labels = _labelled_npz(path, label, missing)
    else:
        sequences, labels = _labelled_csv(path, label, sequence, columns, time, missing)
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise RecipeError(path, f"{label}: expected at least 2 different labels, got {len(names)}")
    order = np.random.default_rng([seed, 5]).permutation(len(sequences))
    count = held_out_count(
        len(sequences), test_fraction, source=path, key="data.test_fraction", noun="sequences"
    )
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
    """Reads the words of a text file, one a line; either none or all are followed by a tab and a condition.

    Raises:
        RecipeError: The file is missing, not UTF-8, or has no words; or tabs are elsewhere.
    """
    lines = read_lines(path)
    conditional = any("\t" in line for _, line in lines)
    words, conditions = [], []
    for number, line in lines:
        word, *others = line.split("\t")
        if conditional and not (len(others) == 1 and word and others[0].strip()):
            raise RecipeError(
                path,
                f"line {number}: expected a word, a tab and its condition, as in other lines, "
                f"got {excerpt(line)}; a text without conditions must have no tabs",
            )
        words.append(word)
        conditions.append(others[0].strip() if others else "word")
    names, numbers = np.unique(conditions, return_inverse=True)
    if len(names) > _MOST_CONDITIONS:
        raise RecipeError(
            path,
            f"expected at most {_MOST_CONDITIONS} different conditions, got {len(names):,}; "
            "what follows a tab is the condition of a word",
        )
    return Words(
        name=path.stem,
        words=tuple(words),
        conditions=numbers,
        condition_names=tuple(str(name) for name in names),
    )


def read_pairs(path: Path) -> Pairs:
    """Reads the pairs of a text file: source, tab, target a line.

    If any source contains a space, all sources are split at spaces, else into letters; targets likewise.

    Raises:
        RecipeError: The file is missing, not UTF-8, or a line has no tab, several, or an empty side.
    """
    sources, targets = [], []
    for number, line in read_lines(path):
        sides = [side.strip() for side in line.split("\t")]
        if len(sides) != 2 or not all(sides):
            raise RecipeError(path, f"line {number}: expected source, tab, target, got {excerpt(line)}")
        sources.append(sides[0])
        targets.append(sides[1])
    return Pairs(name=path.stem, sources=_tokens(sources), targets=_tokens(targets))


def _tokens(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    spaced = any(" " in text for text in texts)
    return tuple(tuple(text.split() if spaced else text) for text in texts)


def _refuse_for_npz(path: Path, **options: str | Sequence[str]) -> None:
    for name, value in options.items():
        if value:
            raise RecipeError(
                path, f"data.{name}: expected a .csv, because the arrays of an .npz have no columns"
            )


def _names(table: Table, columns: Sequence[str], *, without: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns to read: those that the recipe lists, or else all except `without`."""
    columns = [" ".join(name.split()) for name in columns]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(table.path, f"data.columns lists {twice} twice")
    return tuple(columns) or named_by_header(table, without)


def _labelled_npz(path: Path, label: str, missing: MissingRule) -> tuple[list[Floats], Array]:
    found, labels = Archive(path).sequences(label)
    names = [f"feature {number}" for number in range(found[0][1].shape[1])]

    def where(place: str) -> Where:
        return lambda row, name: f"{place}, step {row}, {name}"

    sequences = [complete(path, values, names, missing, where(place)) for place, values in found]
    return _without_empty(sequences, labels)


def _labelled_csv(
    path: Path, label: str, sequence: str, columns: Sequence[str], time: str, missing: MissingRule
) -> tuple[list[Floats], Array]:
    table = read_table(path)
    if label in columns:
        raise RecipeError(path, f"data.columns lists {label}, which is the label to learn")
    table.require([name for name in (label, sequence, time) if name])
    names = _names(table, columns, without=[name for name in (label, sequence, time) if name])
    values, classes = table.numbers(names), table.texts(label)
    times = table.times(time) if time else None
    members: dict[str, list[int]] = {}
    for row, key in enumerate(table.texts(sequence) if sequence else map(str, range(len(values)))):
        members.setdefault(key, []).append(row)
    sequences, labels = [], []
    for key, rows in members.items():
        found = sorted({classes[row] for row in rows})
        if len(found) > 1:
            raise RecipeError(path, f"{sequence} {key}: expected one {label}, got {' and '.join(found[:2])}")
        labels.append(found[0])

        def where(row: int, name: str, rows: list[int] = rows) -> str:
            return table.where(rows[row], name)

        part = values[rows]
        if times is not None:
            part = with_gaps(path, part, times[rows], time, missing, where)
        sequences.append(complete(path, part, names, missing, where))
    return _without_empty(sequences, np.array(labels))


def _without_empty(sequences: list[Floats], labels: Array) -> tuple[list[Floats], Array]:
    kept = [index for index, values in enumerate(sequences) if len(values)]
    return [sequences[index] for index in kept], labels[kept]
