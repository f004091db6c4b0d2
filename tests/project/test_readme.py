"""The code blocks of the README and of CONTRIBUTING: Python is run, shell lines are held to what there is."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.command import statewise as run_command

import statewise.client
from statewise.client import Client
from statewise.service.testing import server_in_thread

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ADDRESS = "localhost:50051"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def shell_commands(program: str) -> list[list[str]]:
    text = "\n".join(blocks(README + CONTRIBUTING, "bash"))
    return [words for line in text.splitlines() if (words := shlex.split(line)) and words[0] == program]


@pytest.fixture(scope="module")
def target(untrained: Path) -> Iterator[str]:
    with server_in_thread(untrained) as address:
        yield address


def test_the_python_examples_run_against_a_server(target: str) -> None:
    names: dict[str, Any] = {}
    for example in blocks(README, "python"):
        assert ADDRESS in example
        exec(compile(example.replace(ADDRESS, target), "README.md", "exec"), names)
    assert names["forecast"].shape == (9,)
    assert names["forecasts"].shape == (1024, 9)
    assert names["scores"].shape == (9,)
    assert np.ptp(names["forecasts"], axis=0).max() == 0  # equal sessions, equal inputs: equal bits
    assert isinstance(names["sounds"], str)


def test_those_of_the_page_about_the_client_run_too(target: str) -> None:
    page = (ROOT / "docs/client.md").read_text()
    with Client(target) as client:
        names: dict[str, Any] = {"client": client, "samples": np.zeros((65, 9), np.float32)}
        for example in blocks(page, "python"):
            exec(compile(example, "client.md", "exec"), names)
    assert names["forecasts"].shape == (64, 9)
    for exception in re.findall(r"^\| ([A-Z][A-Za-z, ]+) \| ", page.split("## Errors")[1], re.MULTILINE):
        for name in exception.split(", "):
            assert hasattr(statewise.client, name)


def test_those_of_the_page_about_states_run_too(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    samples = np.random.default_rng(0).standard_normal((65, 9)).astype(np.float32)
    with Client(target) as client:
        names: dict[str, Any] = {"client": client, "samples": samples}
        for example in blocks((ROOT / "docs/state.md").read_text(), "python"):
            exec(compile(example, "state.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "   layer0.h 0 8\n" in printed
    assert "('layer0.h[0]', 'layer0.h[1]')\n" in printed


def test_make_commands_are_targets() -> None:
    targets = set(re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in shell_commands("make")}
    assert {"demo", "test"} <= named <= targets


def test_the_test_command_is_the_one_that_the_landing_check_runs() -> None:
    assert "$(MAKE) --no-print-directory test" in (ROOT / "Makefile").read_text()
    assert "make check\n" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("words", shell_commands("statewise"), ids=" ".join)
def test_shell_commands_have_the_options_they_are_shown_with(words: list[str]) -> None:
    _, subcommand, *arguments = words
    described = run_command(subcommand, "--help", env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert described.code == 0, described.err
    for option in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{option}\b", described.out), f"statewise {subcommand} has no {option}"
