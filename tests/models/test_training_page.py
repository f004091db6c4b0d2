"""What docs/training.md shows is run, and what it names exists."""

import re
from pathlib import Path

import numpy as np
import pytest

from statewise.models import load_recipe, recipe_names, train

PAGE = (Path(__file__).parents[2] / "docs/training.md").read_text()


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
