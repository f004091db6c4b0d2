"""Checks help and shell completion: every subcommand has examples, and their options exist."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from tests.cli.command import statewise

from statewise.cli._app import subcommands
from statewise.client import Client
from statewise.service.testing import server_in_thread

INNER = ["plot gates", "plot gradients", "plot curves", "sessions show"]
NAMES = [*subcommands(), *INNER]


@cache
def shown(name: str) -> str:
    done = statewise(*name.split(), "--help", env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert done.code == 0, done.err
    return done.out


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_subcommand_have_options_that_it_has(name: str) -> None:
    described = shown(name)
    examples = re.findall(r"^\s+(?:.*\| )?(statewise [^<|│]+)", described, re.MULTILINE)
    assert examples, "help without an example"
    for line in examples:
        words = shlex.split(line)[1:]
        assert words[0] == name.split()[0]
        inner = " ".join(words[:2]) if " ".join(words[:2]) in INNER else words[0]
        known = described if inner == name else shown(inner)
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", known), f"{name} has no {option}"


@pytest.mark.parametrize("columns", ["80", "120"])
def test_paragraphs_break_at_the_width_of_the_terminal_alone(columns: str) -> None:
    shown = statewise("states", "--help", env={"COLUMNS": columns, "NO_COLOR": "1", "TERM": "dumb"}).out
    paragraph = shown.split("A .parquet or .csv")[1].split("For example")[0].strip().splitlines()
    assert all(len(line.rstrip()) > int(columns) - 20 for line in paragraph[1:-1])


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_has_no_type(name: str) -> None:
    assert "<bool>" not in shown(name)


@pytest.mark.parametrize("name", ["train", "score", "states", "plot gates", "plot gradients", "plot curves"])
def test_what_is_written_is_told_alike(name: str) -> None:
    """`import --output` is another thing, the name of an output."""
    assert re.search(r"--output,--out\b|--out,--output\b", shown(name))


def complete(words: list[str]) -> list[str]:
    """Returns what bash offers for the last word."""
    line = ["statewise", *words]
    done = statewise(
        env={
            "_STATEWISE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        }
    )
    assert done.err == ""
    return done.out.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sc"], ["score"]),
        (["serve", "--st"], ["--store"]),
        (["train", "vow"], ["vowels"]),
        (["plot", "gr"], ["gradients"]),
        (["sessions", "sh"], ["show"]),
        (["sessions", "show", "--st"], ["--state"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_shell_completes(words: list[str], offered: list[str]) -> None:
    assert complete(words) == offered


def test_names_of_models_come_from_the_server(repository: Path) -> None:
    with server_in_thread(repository) as address:
        assert complete(["score", "--target", address, "--model", "vo"]) == ["vowels"]
        assert complete(["states", "--target", address, "vo"]) == ["vowels"]
    assert complete(["score", "--target", address, "--model", "vo"]) == []


def test_names_of_sessions_come_from_the_server(repository: Path) -> None:
    with server_in_thread(repository) as address, Client(address) as client:
        for name in ("ankle", "arm", "hip"):
            client.session("gait", id=name)
        assert complete(["sessions", "show", "--target", address, "a"]) == ["ankle", "arm"]
        assert complete(["checkpoints", "--target", address, "h"]) == ["hip"]
        assert complete(["states", "gait", "--target", address, "--ids", "h"]) == ["hip"]
    assert complete(["checkpoints", "--target", address, "h"]) == []


def test_the_completion_script_of_a_shell_is_printed() -> None:
    done = statewise("--show-completion", env={"SHELL": "/bin/bash"})
    assert done.code in (0, 1)  # the shell cannot be detected in every process
    assert "complete " in statewise(env={"_STATEWISE_COMPLETE": "source_bash"}).out
