"""Ends programs that did not close their client, in many ways, several at once: each comes to its end.

`make soak` ends each of them 300 times; here a few times, in the same way.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.helpers.models.generative import write_generative_models
from tests.helpers.server_process import ServerProcess, ServerProcesses

TIMES = os.environ.get("SOAK_EXITS", "1")
ROOT = Path(__file__).parents[2]

LEAVE_A_STALLED_SERVER = """
import os, signal, sys
from statewise.client import Client
from tests.soak.programs import endless
client = Client(sys.argv[1], reconnect_s=600)
values = client.score("wave", endless()) if sys.argv[3] == "score" else client.generate("chatter", steps=5000)
next(values)
os.kill(int(sys.argv[2]), signal.SIGSTOP)
raise SystemExit(3)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of models that generate, in a process of its own."""
    write_generative_models(tmp_path)
    with ExitStack() as running:
        yield ServerProcesses(tmp_path, running).start(idle_timeout_s=60)


@pytest.mark.long
def test_programs_end_that_leave_their_client_open(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "tests.soak.exits", server.address, TIMES]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("call", ["score", "generate"])
def test_a_program_ends_although_its_server_does_not_answer(server: ServerProcess, call: str) -> None:
    """Requests of a score have no timeout here, so only the end of the client ends their threads."""
    command = [sys.executable, "-c", LEAVE_A_STALLED_SERVER, server.address, str(server.child.pid), call]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=100, check=False)
    server.child.send_signal(signal.SIGCONT)
    assert ended.returncode == 3, ended.stderr
