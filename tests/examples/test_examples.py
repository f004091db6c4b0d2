"""Every example, run as its reader would run it, against a real server with untrained models."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import server_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with models of the shapes that `gait` and `vowels` have."""
    repository = tmp_path_factory.mktemp("repository")
    specs = {
        "gait": NetworkSpec(
            input_size=9, output_size=9, cell="lstm", hidden_size=8, head="linear", call_shape="many_to_many"
        ),
        "vowels": NetworkSpec(
            input_size=12, output_size=9, cell="lstm", hidden_size=8, head="softmax", call_shape="many_to_one"
        ),
    }
    for name, spec in specs.items():
        network = Network.initialise(spec, rng=np.random.default_rng(1))
        export_checkpoint(Checkpoint(network=network, recipe=name), repository)
    with server_in_thread(repository) as address:
        yield address


def run(name: str, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=100, check=True)


def test_the_list_of_examples_is_complete() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_the_sensor_goes_on_where_it_was(target: str) -> None:
    samples = np.random.default_rng(2).standard_normal((12, 9)).round(3).astype(np.float32)
    lines = [",".join(f"{value:.3f}" for value in sample) + "\n" for sample in samples]

    first = run("streaming_sensor.py", target, stdin="".join(lines[:7]))
    second = run("streaming_sensor.py", target, stdin="".join(lines[7:]))

    assert first.stderr == "going on at time step 0\n"
    assert second.stderr == "going on at time step 7\n"
    printed = (first.stdout + second.stdout).splitlines()
    with Client(target) as client:
        whole = client.predict("gait", samples)
    assert printed == [",".join(f"{value:.3f}" for value in forecast) for forecast in whole]


def test_bulk_reports_what_failed_and_counts_the_rest(target: str) -> None:
    done = run("batch_scoring.py", target)
    failed = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in failed] == [f"utterance-{99 + 100 * k}" for k in range(10)]
    assert all("finite" in line for line in failed)
    assert sum(int(line.split(": ")[1]) for line in done.stdout.splitlines()) == 990


async def test_the_gateway_holds_a_thousand_sessions(target: str) -> None:
    devices, rounds = 1000, 3
    samples = np.random.default_rng(3).standard_normal((devices, rounds, 9)).astype(np.float32)
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(EXAMPLES / "asyncio_gateway.py"), target, stdout=subprocess.PIPE
    )
    assert gateway.stdout is not None
    host, port = (await gateway.stdout.readline()).decode().split()[-1].split(":")
    everyone_is_here = asyncio.Barrier(devices)

    async def device(own: np.ndarray) -> list[list[float]]:
        reader, writer = await asyncio.open_connection(host, int(port))
        answers = []
        for sample in own:
            writer.write(json.dumps(sample.tolist()).encode() + b"\n")
            answers.append(json.loads(await reader.readline()))
            await everyone_is_here.wait()
        writer.write(b"nonsense\n")
        assert "error" in json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return answers

    try:
        answers = await asyncio.gather(*(device(own) for own in samples))
    finally:
        gateway.send_signal(signal.SIGINT)
        code = await gateway.wait()

    assert code == 0
    with Client(target) as client:
        np.testing.assert_array_equal(np.array(answers, np.float32), client.predict("gait", samples))
