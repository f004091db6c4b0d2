"""Runs plain `docker compose up`, as the page shows it: the image, and one server with the sample models."""

import re
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from tests.docker.stack import ROOT, Container, Stack, moment

from statewise.client import Client

IMAGE = "statewise-samples:0.1.0"
PAGE = (ROOT / "docs/deployment.md").read_text()


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[Container]:
    stack.down()
    stack.up()
    (server,) = stack.containers("server")
    yield server
    stack.down()


def report(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{text}")


def test_the_image_carries_what_runs_and_nothing_to_build_with(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    image = stack.engine.inspect(IMAGE)
    base = stack.engine.inspect(
        re.findall(r"PYTHON_IMAGE=(\S+)", (ROOT / "docker/Dockerfile").read_text())[0]
    )
    config = image["Config"]

    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "statewise"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/opt/statewise/probe.py"]
    own_bytes = image["Size"] - base["Size"]
    report(f"image: {own_bytes / 1e6:.0f} MB on a base of {base['Size'] / 1e6:.0f} MB", capsys)
    assert own_bytes < 300e6


def test_the_server_is_confined(server: Container, capsys: pytest.CaptureFixture[str]) -> None:
    start_s = (server.logged("listening on") - moment(server.state["StartedAt"])).total_seconds()
    report(f"start of the container to `listening on`: {start_s:.1f} s", capsys)

    assert server.execute("sh", "-c", "touch /here || touch /repository/here").returncode != 0
    assert server.execute("id", "-u").stdout == "10001\n"
    for tool in ("cc", "gcc", "make", "git", "curl"):
        assert server.execute("sh", "-c", f"command -v {tool}").returncode != 0, tool
    assert server.execute("python", "-m", "pip", "--version").returncode != 0
    status = server.execute("cat", "/proc/1/status").stdout
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    limits = server.engine.inspect(server.name)["HostConfig"]
    assert limits["Memory"] == 2**30
    assert limits["RestartPolicy"]["Name"] == "unless-stopped"


def test_the_port_is_published_to_this_machine_alone(server: Container) -> None:
    ports = server.engine.inspect(server.name)["NetworkSettings"]["Ports"]
    assert {entry["HostIp"] for published in ports.values() for entry in published or ()} == {"127.0.0.1"}


def test_every_port_of_every_service_is(stack: Stack) -> None:
    every = stack.compose("--profile=balanced", "--profile=monitoring", "config")
    assert every.count("published:") == every.count("host_ip: 127.0.0.1") == 4


def test_the_sample_models_are_served(server: Container) -> None:
    with Client(server.address()) as client:
        statuses = {model.name: model.status for model in client.models()}
    assert statuses == dict.fromkeys(("names", "sunspots", "tumour", "vowels"), "ready")


def test_the_probe_tells_a_server_that_does_not_answer(server: Container) -> None:
    probe = ("python", "/opt/statewise/probe.py")
    assert server.execute(*probe).returncode == 0
    silent = server.execute("env", "STATEWISE_LISTEN=0.0.0.0:1", *probe)
    assert silent.returncode == 1
    assert "StatusCode.UNAVAILABLE" in silent.stderr


def test_a_session_outlives_its_container(server: Container, stack: Stack) -> None:
    samples = np.linspace(0, 200, 8, dtype=np.float32)[:, None]
    with Client(server.address()) as client:
        expected = np.asarray(client.predict("sunspots", samples))
        session = client.session("sunspots", id="kept")
        before = [session.step(sample) for sample in samples[:4]]
    stack.compose("up", "--detach", "--wait", "--force-recreate", "server")
    (new,) = stack.containers("server")
    files = new.execute("stat", "--format=%u %a", "/var/lib/statewise", "/var/lib/statewise/sessions.db")
    assert files.stdout == "10001 700\n10001 600\n"
    with Client(new.address()) as client:
        session = client.resume("kept")
        assert session.position == 4
        after = [session.step(sample) for sample in samples[4:]]
    np.testing.assert_array_equal(np.stack([*before, *after]), expected)


def test_the_walk_through_is_as_written(stack: Stack) -> None:
    stack.down()
    (lines,) = re.findall(r"^## Walk-through$.*?^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert lines.count("\n") == 5
    port = str(stack.server_port)
    done = subprocess.run(
        ["sh", "-e", "-c", lines.replace("50051", port)],
        cwd=ROOT, env=stack.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\[\d+\.\d+\]$", done.stdout, re.MULTILINE)) == 3
    assert stack.containers("server") == []
