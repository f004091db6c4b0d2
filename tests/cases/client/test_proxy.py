"""Reaches this machine with a proxy in the environment: nothing local is asked of a proxy."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.command import Server, statewise

VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY")
NOBODY = "http://127.0.0.1:9"
TARGETS = ("127.0.0.1:{}", "localhost:{}", "dns:///localhost:{}", "ipv4:127.0.0.1:{}")

PROGRAM = """
import os, sys
import numpy as np
from statewise.client import Client
variables, targets = sys.argv[1].split(), sys.argv[2].split()
for variable in variables:
    os.environ[variable] = sys.argv[3]
    for target in targets:
        with Client(target, timeout=60) as client:
            client.predict("steps", np.ones((3, 3), np.float32))
        print(variable, target)
    del os.environ[variable]
"""


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    """A server that has a proxy in its own environment, too."""
    with Server(repository, env={"http_proxy": NOBODY, "no_proxy": ""}) as server:
        yield server


def test_programs_reach_it(server: Server) -> None:
    targets = [target.format(server.target.rpartition(":")[2]) for target in TARGETS]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, " ".join(VARIABLES), " ".join(targets), NOBODY],
        env={**os.environ, "no_proxy": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(VARIABLES) * len(TARGETS)


@pytest.mark.long
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_command_reaches_it(server: Server, variable: str, host: str) -> None:
    target = f"{host}:{server.target.rpartition(':')[2]}"
    done = statewise("models", "--target", target, "--json", env={variable: NOBODY, "no_proxy": ""})
    assert done.code == 0, done.err


@pytest.mark.long
def test_no_proxy_does_no_harm(server: Server) -> None:
    env = {"http_proxy": NOBODY, "no_proxy": "127.0.0.1,localhost"}
    done = statewise("models", "--target", server.target, "--json", env=env)
    assert done.code == 0, done.err
