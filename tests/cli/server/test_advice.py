"""Checks that what the command advises can be done with the command."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.command import statewise

from statewise import client
from statewise.cli._connection import in_words_of_command
from statewise.client import StatewiseError
from statewise.service.testing import server_in_thread

ERRORS = [
    kind
    for kind in (getattr(client, name) for name in client.__all__)
    if isinstance(kind, type) and issubclass(kind, StatewiseError)
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_no_advice_names_a_call_or_an_argument_of_the_library(kind: type[StatewiseError]) -> None:
    error = StatewiseError(f"it failed; {kind.advice}")
    told = in_words_of_command(error)
    assert told.startswith("it failed; ")
    assert not [sign for sign in ("()", "=", ".limits", ".version") if sign in told]


@pytest.fixture(scope="module")
def target(repository: Path) -> Iterator[str]:
    with server_in_thread(repository) as address:
        yield address


def test_an_unknown_model_names_the_subcommand_that_lists_models(target: str) -> None:
    for command in ("stream", "generate"):
        done = statewise(command, "--target", target, "--model", "nothing", stdin="[1]\n")
        assert done.complaint.endswith("`statewise models` lists what is served")


def test_missing_credentials_name_the_flags(repository: Path, tmp_path: Path) -> None:
    callers = tmp_path / "callers.toml"
    assert statewise("token", "walker", "--callers", callers).code == 0
    token = statewise("token", "runner", "--callers", callers).out.strip()
    (tmp_path / "token").write_text(f"\ufeff{token}\r\n")  # as some editors save it
    with server_in_thread(repository, callers=callers, insecure=True) as address:
        done = statewise("models", "--target", address)
        assert statewise("models", "--target", address, "--token-file", tmp_path / "token").code == 0
    assert done.complaint.endswith("pass --token-file, or --tls-certificate with --tls-key")


def test_a_model_that_does_not_generate_names_subcommands(target: str) -> None:
    done = statewise("generate", "--target", target, "--model", "vowels")
    assert "`statewise score`" in done.complaint
    assert "()" not in done.complaint


def test_a_misspelt_variable_is_told(target: str) -> None:
    done = statewise("models", "--target", target, env={"STATEWISE_CLIENT_TOKENFILE": "token"})
    assert done.code == 0
    assert done.err == (
        "STATEWISE_CLIENT_TOKENFILE: no option reads this variable; is STATEWISE_CLIENT_TOKEN_FILE meant?\n"
    )
