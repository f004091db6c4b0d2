"""Fixtures of all tests of the command: short trainings, and a repository of their packages."""

from pathlib import Path

import pytest
from tests.cli.command import statewise


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoint folders of two short trainings, by recipe."""
    folder = tmp_path_factory.mktemp("trained")
    for recipe in ("vowels", "gait"):
        done = statewise("train", recipe, "--out", folder / recipe, "--set", "train.epochs=2")
        assert done.code == 0, done.err
    return {recipe: folder / recipe for recipe in ("vowels", "gait")}


@pytest.fixture(scope="session")
def repository(trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of both trained networks."""
    repository = tmp_path_factory.mktemp("repository")
    for folder in trained.values():
        done = statewise("export", folder, "--repository", repository)
        assert done.code == 0, done.err
    return repository
