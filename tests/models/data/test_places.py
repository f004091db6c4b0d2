"""Compares what is read from a .csv, and the place of a fault, with the table that was written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statewise.models import RecipeError
from statewise.models.datasets import read_series

NUMBERS = st.floats(-1e6, 1e6, width=32)
TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=2, max_size=8)
)


def written(path: Path, names: Sequence[str], rows: list[list[str]], data: st.DataObject) -> list[int]:
    """Writes a table in one of the forms that programs write; returns the line of each row."""
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    text = data.draw(st.sampled_from(["", "\ufeff"])) + ",".join(f'"{name}"' for name in names) + end
    lines = []
    for row in rows:
        text += data.draw(st.sampled_from(["", end, f"  {end}{end}"]))
        lines.append(text.count("\n") + 1)
        text += ",".join(data.draw(st.sampled_from([cell, f'"{cell}"', f" {cell} "])) for cell in row) + end
    path.write_bytes(text.encode())
    return lines


@settings(max_examples=100, deadline=None)
@given(table=TABLES, name=st.sampled_from(["a", "a\nin two lines", "a, b"]), data=st.data())
def test_every_form_of_a_table_is_read_and_a_fault_has_its_place(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[float]], name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    names = [name, *(f"column {number}" for number in range(1, len(table[0])))]
    texts = [[repr(value) for value in row] for row in table]
    written(path, names, texts, data)
    read = read_series(path, columns=(), test_fraction=0)
    np.testing.assert_array_equal(read.values, np.array(table, np.float32))
    assert read.channels == tuple(" ".join(name.split()) for name in names)

    row = data.draw(st.integers(0, len(table) - 1))
    column = data.draw(st.integers(0, len(names) - 1))
    texts[row][column] = "x"
    line = written(path, names, texts, data)[row]
    with pytest.raises(
        RecipeError, match=rf"line {line}, {read.channels[column]}: expected a number, got ' ?x"
    ):
        read_series(path, columns=(), test_fraction=0)
