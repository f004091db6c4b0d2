"""Runs what docs/training.md shows and looks up every line and key that the page names."""

import re
from pathlib import Path

import numpy as np
import pytest

from statewise.models import load_recipe, recipe_names, train

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "training.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/training.md", "exec"), {})
    assert (tmp_path / "runs/vowels/network.json").exists()


@pytest.mark.parametrize("block", blocks("toml"))
def test_the_recipe_trains_on_data_as_described(block: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block)
    steps = np.arange(3000)
    rows = "".join(f"{t},{np.sin(t / 9):.3f},{np.cos(t / 9):.3f}\n" for t in steps)
    (tmp_path / "machine.csv").write_text("time,current,load\n" + rows)
    result = train(load_recipe(tmp_path / "mine.toml", {"train.epochs": 1}), tmp_path / "out")
    assert "rmse" in result.metrics


def test_every_recipe_is_in_both_tables() -> None:
    for name in recipe_names():
        assert len(re.findall(rf"^\| `{name}`", PAGE, re.MULTILINE)) >= 2, name


def test_commands_set_keys_that_exist() -> None:
    settings = re.findall(r"--set (\S+?)=(\S+?)[`\s]", PAGE)
    assert settings
    load_recipe("vowels", dict(settings))


def holds(line: str, code: str) -> bool:
    """Whether a line defines a name, or contains what is no name."""
    if code.isidentifier():
        return bool(re.match(rf"\s*(def|class) {code}\b|\s*{code}\b[^=()]*=(?!=)", line))
    return code in line


def test_every_line_named_holds_what_the_page_says() -> None:
    links = re.findall(r"\[([\w/.]+\.py):(\d+)\]\((\.\./[\w/.]+)#L(\d+)\) `([^`]+)`", PAGE)
    assert len(links) == PAGE.count("#L") > 50
    for label, number, target, anchor, code in links:
        path = DOCS / target
        lines = path.read_text().splitlines()
        assert path.as_posix().endswith(label)
        assert number == anchor
        found = [at for at, line in enumerate(lines, 1) if holds(line, code)]
        assert int(number) in found, f"{label}:{number}: expected `{code}`, which is in lines {found}"


def test_the_lines_of_the_equation_followed_are_those_of_the_cell() -> None:
    source = (DOCS / "../models/statewise/models/cells/_lstm.py").read_text()
    [block] = blocks("text")
    statements = [part.strip() for line in block.splitlines() for part in line.split("#")[0].split(";")]
    assert len(statements) == 5
    for statement in statements:
        assert statement in source


def test_every_slip_has_a_test_and_every_test_a_slip() -> None:
    other = (Path(__file__).parents[1] / "networks/test_other_texts.py").read_text()
    named = set(re.findall(r"test_other_texts.py#L\d+\) `(\w+)`", PAGE))
    library = {"test_the_terms_of_a_network_are_jacobian_times_explicit_derivative"}
    assert named == set(re.findall(r"^def (test_\w+)", other, re.MULTILINE)) - library
