"""Leaves a server of `statewise.service.testing` open: its program ends all the same."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from statewise.client import Client
from statewise.service.testing import server_in_thread

left_open = server_in_thread(Path(sys.argv[1]), metrics_listen="127.0.0.1:0", repository_poll_s=0.01)
client = Client(left_open.__enter__())
session = client.session("steps")
print(session.step([1.0, 2.0, 3.0]).shape)
{end}
"""


def test_a_program_that_leaves_a_server_open_ends(repository: Path) -> None:
    for end, code in (("", 0), ("raise KeyError('the end')", 1)):
        command = [sys.executable, "-c", PROGRAM.format(end=end), str(repository)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert (done.returncode, done.stdout) == (code, "(2,)\n"), done.stderr
        assert ("the end" in done.stderr) is bool(code)
        assert "futures" not in done.stderr
