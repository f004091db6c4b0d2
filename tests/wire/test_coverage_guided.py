"""A short run of the fuzzer that follows coverage; longer ones are for people."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("coverage_guided.py")


def test_bytes_that_follow_coverage_are_read_or_refused() -> None:
    pytest.importorskip("atheris", reason="pip install atheris: the fuzzer that follows coverage")
    run = subprocess.run(
        [sys.executable, PROGRAM, "-runs=100000", "-seed=1"], capture_output=True, text=True, timeout=110
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Done 100000 runs" in run.stderr
