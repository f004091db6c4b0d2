"""Runs the README's part about the shell as a reader would: every line, in its order, in an empty folder."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"


def shell(block: str, folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """Starts a block of shell lines, which stops at the first line that fails."""
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", **environment},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.long
def test_the_shell_walk_through_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    section = README.read_text().split("## From the shell")[1]
    server_lines, client_lines = re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[:2]

    printed = []
    with shell(server_lines.replace("127.0.0.1:50051", "127.0.0.1:0"), tmp_path) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                printed.append(line)
                if line.startswith("listening on "):
                    break
            address = printed[-1].split()[-1]
            with shell(client_lines, tmp_path, STATEWISE_TARGET=address) as client:
                shown, _ = client.communicate(timeout=300)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    assert {"repository/sunspots/1\n", "repository/names/1\n"} <= set(printed)
    assert client.returncode == 0, shown
    assert len(re.findall(r"^\[[\d.]+\]$", shown, re.MULTILINE)) == 3
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 2
