"""Runs functions in child processes that crash, hang, take memory or raise."""

import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from statewise.export import SourceError
from statewise.export.isolation import ChildDied, run_isolated


def test_a_call_in_a_child_gives_the_function_s_result(tmp_path: Path) -> None:
    found = run_isolated(os.path.join, str(tmp_path), "file")

    assert found == str(tmp_path / "file")
    assert run_isolated(os.getpid) != os.getpid()


def test_an_error_of_the_function_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        run_isolated(os.stat, tmp_path / "missing")


def test_errors_that_name_a_file_keep_their_text(tmp_path: Path) -> None:
    error = pickle.loads(pickle.dumps(SourceError(tmp_path, "expected a file")))

    assert str(error) == f"{tmp_path}: expected a file"
    assert error.path == tmp_path


def test_a_child_serves_the_next_call_too() -> None:
    assert run_isolated(os.getpid) == run_isolated(os.getpid)


def test_a_crash_ends_the_child_alone() -> None:
    with pytest.raises(ChildDied, match=r"it crashed \(SIGABRT") as death:
        run_isolated(os.abort)
    assert death.value.crashed


def test_a_child_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ChildDied, match=r"it ran longer than 0\.5 s") as death:
        run_isolated(time.sleep, 600, limit_s=0.5)
    assert not death.value.crashed


def test_a_child_that_takes_too_much_memory_is_an_error() -> None:
    with pytest.raises(MemoryError, match="expected to need at most 200,000,000 bytes"):
        run_isolated(np.ones, 10**9, memory_bytes=200_000_000)
