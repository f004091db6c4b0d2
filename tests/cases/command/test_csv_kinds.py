"""Trains on .csv files as other programs write them: each is read, or refused in one line with its place."""

from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import Finished, statewise

pytestmark = pytest.mark.long

RECIPE = """
task = "forecast"
[data]
source = "{source}"
{options}
[network]
cell = "gru"
hidden_size = 4
[train]
epochs = 1
batch_size = 2
window = 16
"""
ROWS = np.random.default_rng(0).standard_normal((200, 2)).round(3).tolist()
TEXT = "current,load\n" + "".join(f"{a},{b}\n" for a, b in ROWS)
LINES = TEXT.splitlines()
TIMES = f"when,{LINES[0]}\n" + "".join(f"2024-01-01T00:00:00,{line}\n" for line in LINES[1:])


def with_line_8(line: str) -> list[str]:
    return [*LINES[:7], line, *LINES[8:]]


def joined(lines: list[str], ends: str = "\n") -> str:
    return ends.join(lines) + "\n"


A, B = LINES[7].split(",")
READ: dict[str, tuple[str, str | bytes, str]] = {
    "plain": ("a.csv", TEXT, ""),
    "byte order mark": ("a.csv", "\ufeff" + TEXT, ""),
    "byte order mark and columns": ("a.csv", "\ufeff" + TEXT, 'columns = ["current"]'),
    "upper-case suffix": ("A.CSV", TEXT, ""),
    "quoted header": ("a.csv", TEXT.replace("current,load", '"current","load"'), ""),
    "comma in a quoted header": ("a.csv", TEXT.replace("current,load", '"current, A","load"'), ""),
    "new line in a quoted header": ("a.csv", TEXT.replace("current,load", '"current\n(A)","load"'), ""),
    "times beside the columns": ("a.csv", TIMES, 'columns = ["current", "load"]'),
    "blank lines": ("a.csv", TEXT.replace("\n", "\n\n"), ""),
    "lines that end as Windows's": ("a.csv", TEXT.replace("\n", "\r\n"), ""),
}
"""Name of the file, content and further lines of the recipe."""
TOLD: dict[str, tuple[str, str | bytes, str]] = {
    "semicolons": ("a.csv", TEXT.replace(",", ";"), "semicolons"),
    "decimal commas": ("a.csv", TEXT.replace(",", ";").replace(".", ","), "semicolons"),
    "suffix .txt": ("a.txt", TEXT, "a.txt"),
    "empty cell": ("a.csv", joined(with_line_8(f"{A},")), "line 8, load: a value is missing"),
    "NaN": ("a.csv", joined(with_line_8(f"NaN,{B}")), "line 8, current: a value is missing"),
    "NA": ("a.csv", joined(with_line_8(f"NA,{B}")), "line 8, current: a value is missing"),
    "NA behind blank lines": ("a.csv", joined(with_line_8(f"NA,{B}"), "\n\n"), "line 15, current"),
    "column of times": ("a.csv", TIMES, "data.time names a column of times"),
    "no header": ("a.csv", joined(LINES[1:]), "line 1: expected a header of names"),
    "UTF-16": ("a.csv", TEXT.encode("utf-16"), "expected UTF-8 text, got UTF-16"),
    "Latin-1": ("a.csv", TEXT.replace("current", "stromstärke").encode("latin-1"), "expected UTF-8 text"),
    "one name twice": ("a.csv", TEXT.replace("current", "load"), "columns 1 and 2 have the name load"),
    "comma at the ends": ("a.csv", TEXT.replace("\n", ",\n"), "column 3 has no name"),
    "tabs": ("a.csv", TEXT.replace(",", "\t"), "tabs"),
}
"""Name of the file, content and words of the complaint."""


def train(folder: Path, name: str, content: str | bytes, options: str = "") -> Finished:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(source=name, options=options))
    return statewise("train", recipe, "--out", folder / "run")


@pytest.mark.parametrize("kind", READ)
def test_it_is_trained_on(tmp_path: Path, kind: str) -> None:
    done = train(tmp_path, *READ[kind])
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "checkpoint.npz").exists()


@pytest.mark.parametrize("kind", TOLD)
def test_it_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    name, content, words = TOLD[kind]
    done = train(tmp_path, name, content)
    assert words in done.complaint
