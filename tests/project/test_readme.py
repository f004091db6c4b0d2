"""The code blocks of the README and of CONTRIBUTING: Python is run, shell lines are held to what there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
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
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained networks of the shapes that the recipes of these names have."""
    folder = tmp_path_factory.mktemp("repository")
    specs = {
        "vowels": NetworkSpec(
            input_size=12, output_size=9, cell="lstm", hidden_size=8, head="softmax", call_shape="many_to_one"
        ),
        "gait": NetworkSpec(
            input_size=9, output_size=9, cell="lstm", hidden_size=8, head="linear", call_shape="many_to_many"
        ),
    }
    for name, spec in specs.items():
        network = Network.initialise(spec, rng=np.random.default_rng(1))
        export_checkpoint(Checkpoint(network=network, recipe=name), folder)
    return folder


def test_the_python_example_runs_against_a_server(repository: Path) -> None:
    (example,) = blocks(README, "python")
    assert ADDRESS in example
    names: dict[str, Any] = {}
    with server_in_thread(repository) as address:
        exec(compile(example.replace(ADDRESS, address), "README.md", "exec"), names)
    assert names["forecast"].shape == (9,)
    assert names["forecasts"].shape == (1024, 9)
    assert names["scores"].shape == (9,)
    assert np.ptp(names["forecasts"], axis=0).max() == 0  # equal sessions, equal inputs: equal bits


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
    described = subprocess.run(
        [Path(sys.executable).parent / "statewise", subcommand, "--help"],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{option}\b", described), f"statewise {subcommand} has no {option}"
