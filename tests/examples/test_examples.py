"""Runs every example as a reader would, against a real server with untrained models."""

import asyncio
import inspect
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import statewise

from statewise.client import Client
from statewise.service import Settings
from statewise.service.testing import server_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def target(untrained: Path) -> Iterator[str]:
    """A server with untrained models in the shapes of the recipes."""
    with server_in_thread(untrained) as address:
        yield address


def run(name: str, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=100, check=True)


def test_the_list_of_examples_is_complete() -> None:
    listed = re.findall(r"\]\(([\w/]+\.(?:py|js))\)", (EXAMPLES / "README.md").read_text())
    programs = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("cells/*.py"), *EXAMPLES.glob("node/*.js")]
    assert sorted(listed) == sorted(str(path.relative_to(EXAMPLES)) for path in programs)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_the_default_address_of_an_example_is_that_of_the_server(path: Path) -> None:
    parameters = inspect.signature(runpy.run_path(str(path))["main"]).parameters
    assert parameters["target"].default == Settings.model_fields["listen"].default


def test_the_sensor_says_at_a_terminal_what_it_reads(target: str) -> None:
    ours, terminal = os.openpty()
    os.write(ours, b"\x04")  # Ctrl-D ends the input
    command = [sys.executable, str(EXAMPLES / "streaming_sensor.py"), target]
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=100, check=True)
    for descriptor in (ours, terminal):
        os.close(descriptor)
    assert (
        done.stderr.splitlines()[1] == "type a sample a line: nine numbers, separated by commas; Ctrl-D ends"
    )


def test_the_sensor_continues_at_its_position(target: str) -> None:
    samples = np.random.default_rng(2).standard_normal((12, 9)).round(3).astype(np.float32)
    lines = [",".join(f"{value:.3f}" for value in sample) + "\n" for sample in samples]

    first = run("streaming_sensor.py", target, stdin="".join(lines[:7]))
    second = run("streaming_sensor.py", target, stdin="".join(lines[7:]))

    assert first.stderr == "continuing at time step 0\n"
    assert second.stderr == "continuing at time step 7\n"
    printed = (first.stdout + second.stdout).splitlines()
    with Client(target) as client:
        whole = client.predict("gait", samples)
    assert printed == [",".join(f"{value:.3f}" for value in forecast) for forecast in whole]


def test_bulk_scoring_reports_failures_and_counts_the_rest(target: str) -> None:
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
    all_connected = asyncio.Barrier(devices)

    async def device(own: np.ndarray) -> list[list[float]]:
        reader, writer = await asyncio.open_connection(host, int(port))
        answers = []
        for sample in own:
            writer.write(json.dumps(sample.tolist()).encode() + b"\n")
            answers.append(json.loads(await reader.readline()))
            await all_connected.wait()
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


def test_names_begin_with_the_prompt_and_repeat_with_the_seed(target: str) -> None:
    first, second = (run("text_generation.py", target, "jo").stdout.splitlines() for _ in range(2))
    assert first == second
    drawn = [line.split(": ")[1] for line in first if line.startswith("<")]
    assert len(drawn) == 6
    assert all(name.startswith("jo") for name in drawn)
    forks = [line.split(": ")[1] for line in first if line.startswith("fork")]
    assert len({name[:3] for name in forks}) == 1
    with Client(target) as client:
        assert drawn[0] == "jo" + "".join(
            client.generate("names", prompt="JO", condition="female", steps=12, temperature=0.8, seed=0)
        )


def test_words_are_pronounced_whole_and_sound_by_sound(target: str) -> None:
    lines = run("encoder_decoder.py", target, "hello", "memory").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "hello",
        "memory",
        "sound by sound",
        "ways to say it",
    ]
    assert lines[2].split(": ")[1].split() == lines[0].split(": ")[1].split()


def test_forecasts_differ_after_the_fork(target: str) -> None:
    lines = run("fork_and_compare.py", target).stdout.splitlines()
    assert all(float(line.split(":")[1]) > 0 for line in lines[:-2])
    assert lines[-2:] == [f"from the {where}, the same bits: yes" for where in ("checkpoint", "snapshot")]


def found_by_state_and_by_readings(target: str) -> dict[str, tuple[int, int]]:
    """Drifting sensors that were found, of 16, by what drifts."""
    lines = run("drifting_sensors.py", target).stdout.splitlines()
    told = [
        re.fullmatch(r"(\w+): found by state (\d+) of 16, by readings (\d+)", line) for line in lines[::6]
    ]
    assert len(lines) == 12
    return {each[1]: (int(each[2]), int(each[3])) for each in told if each is not None}


def test_lagging_sensors_are_found_by_their_states_alone(target: str) -> None:
    found = found_by_state_and_by_readings(target)
    assert found["offset"][1] == 16
    assert found["lag"][0] >= 14  # an untrained network remembers, too
    assert found["lag"][1] <= 4


def test_the_cells_tell_which_package_is_missing(tmp_path: Path) -> None:
    (tmp_path / "onnxscript.py").write_text("raise ModuleNotFoundError(name='onnxscript')")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "cells" / "run.py"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert done.stderr == "run.py finds no onnxscript: pip install torch==2.13.0 onnxscript\n"


@pytest.mark.long
def test_a_trained_model_finds_drifting_sensors_as_the_example_says(tmp_path: Path) -> None:
    assert statewise("train", "gait", "--out", tmp_path / "gait").code == 0
    assert statewise("export", tmp_path / "gait", "--repository", tmp_path / "repository").code == 0
    with server_in_thread(tmp_path / "repository") as address:
        found = found_by_state_and_by_readings(address)
    assert found["offset"][0] >= 15
    assert found["lag"][0] >= 15
    assert found["lag"][1] <= 4


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript example with its packages installed."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: the JavaScript example is not run")
    folder = tmp_path_factory.mktemp("javascript") / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_javascript_gets_what_python_gets(target: str, node: Path) -> None:
    samples = np.random.default_rng(4).standard_normal((12, 9)).round(3).astype(np.float32)
    lines = "".join(",".join(f"{value:.3f}" for value in sample) + "\n" for sample in samples)
    done = subprocess.run(
        ["node", "forecast.js", target],
        cwd=node,
        input=lines,
        env={**os.environ, "STATEWISE_PROTO": str(EXAMPLES.parent / "proto")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Client(target) as client:
        whole = client.predict("gait", samples)
        assert not [session.id for session in client.list_sessions() if session.id.startswith("node-")]
    printed = np.array([line.split(",") for line in done.stdout.splitlines()], np.float32)
    np.testing.assert_allclose(printed, whole, atol=5.1e-4)


def test_javascript_gets_the_error_message(target: str, node: Path) -> None:
    done = subprocess.run(
        ["node", "forecast.js", target],
        cwd=node,
        input="1,2\n",
        env={**os.environ, "STATEWISE_PROTO": str(EXAMPLES.parent / "proto")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert "expected shape [1, 9]" in done.stderr
