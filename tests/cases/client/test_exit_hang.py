"""Ends programs that leave their client open: by an exception, or by never closing it. Each ends."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.command import Server
from tests.helpers.models.generative import write_generative_models

PROGRAM = """
import sys, numpy as np
from statewise.client import Client
x = np.zeros(3, "f")
if sys.argv[2] == "raise":
    with Client(sys.argv[1]) as client, client.session("wave") as session:
        session.step(x)
        raise SystemExit(3)
client = Client(sys.argv[1])
session = client.session("wave")
session.step(x)
if sys.argv[2] == "fail":
    session.step(x[:2])
"""
ENDS = {"raise": 3, "fail": 1, "never closed": 0}
"""Exit codes by the way in which a program ends."""
TIMES = 40
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("left_open")
    write_generative_models(repository)
    with Server(repository) as server:
        yield server


@pytest.mark.long
@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends(server: Server, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.target, end], capture_output=True, timeout=100
    )
    assert done.returncode == ENDS[end], done.stderr


@pytest.mark.long
def test_programs_end_every_time(server: Server) -> None:
    """Forked from one interpreter, which has the modules imported, four at once."""
    kinds = ("raise_in_with", "never_close")
    command = [sys.executable, "-m", "tests.soak.exits", server.target, str(TIMES), *kinds]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
