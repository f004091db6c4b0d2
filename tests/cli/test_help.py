"""Help that shows how: every subcommand has examples, and they are valid; the shell completes words."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from statewise.cli._app import subcommands

NAMES = [*subcommands(), "plot gates", "plot gradients", "plot curves"]


def shown(statewise, name):
    done = statewise(*name.split(), "--help", env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert done.code == 0, done.err
    return done.out


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_subcommand_have_options_that_it_has(statewise, name):
    described = shown(statewise, name)
    examples = re.findall(r"^\s+(?:.*\| )?(statewise [^<|│]+)", described, re.MULTILINE)
    assert examples, "help without an example"
    for line in examples:
        words = shlex.split(line)[1:]
        assert words[0] == name.split()[0]
        inner = " ".join(words[:2]) if words[0] == "plot" else words[0]
        known = described if inner == name else shown(statewise, inner)
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", known), f"{name} has no {option}"


def complete(words):
    """What bash offers for the last of some words."""
    line = ["statewise", *words]
    done = subprocess.run(
        [sys.executable, "-m", "statewise.cli"],
        env={
            **os.environ,
            "_STATEWISE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sc"], ["score"]),
        (["serve", "--st"], ["--store"]),
        (["train", "vow"], ["vowels"]),
        (["plot", "gr"], ["gradients"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_shell_completes(words, offered):
    assert complete(words) == offered


def test_names_of_models_come_from_the_server(repository):
    from statewise.service.testing import server_in_thread

    with server_in_thread(repository) as address:
        assert complete(["score", "--target", address, "--model", "vo"]) == ["vowels"]
    assert complete(["score", "--target", address, "--model", "vo"]) == []


def test_the_script_for_a_shell_can_be_had(statewise):
    done = statewise("--show-completion", env={"SHELL": "/bin/bash"})
    assert done.code in (0, 1)  # which shell it is cannot be told from every process
    script = subprocess.run(
        [sys.executable, "-m", "statewise.cli"],
        env={**os.environ, "_STATEWISE_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
    ).stdout
    assert "complete " in script
