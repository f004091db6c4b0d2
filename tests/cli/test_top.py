"""`statewise top` beside a real server that steps."""

import fcntl
import json
import os
import pty
import signal
import struct
import termios
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from rich.console import Console

from statewise.cli._top import activity, screen
from statewise.client import Client, ModelStats, ServerStats
from statewise.service.testing import server_in_thread


@pytest.fixture(scope="module")
def target(repository):
    """A server of which one session is stepped all the time."""
    with server_in_thread(repository) as address, Client(address) as client:
        ended = threading.Event()

        def step():
            with client.session("gait") as session:
                while not ended.is_set():
                    session.step(np.zeros(9, np.float32))

        stepping = threading.Thread(target=step)
        stepping.start()
        yield address
        ended.set()
        stepping.join()


def of(report, name):
    (found,) = (model for model in report["models"] if model["model"] == name)
    return found


def test_one_report_as_json_has_rates_of_one_interval(statewise, target):
    report = statewise("top", "--target", target, "--once", "--json", "--interval", "0.3").json
    busy, quiet = of(report, "gait"), of(report, "vowels")
    assert busy["steps_per_s"] == busy["requests_per_s"] > 0
    assert (busy["sessions"], busy["rows_per_batch"], busy["errors_per_s"]) == (1, 1.0, 0.0)
    assert 0 < busy["latency_p50_s"] <= busy["latency_p99_s"]
    assert (quiet["steps_per_s"], quiet["latency_p50_s"], quiet["rows_per_batch"]) == (0.0, None, None)
    assert report["streams"] == 1
    assert report["cpu_cores"] > 0
    datetime.fromisoformat(report["at"])


def test_what_is_piped_is_one_plain_report(statewise, target):
    done = statewise("top", "--target", target, "--interval", "0.1")
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert "gait/1" in done.out
    assert "vowels/1" in done.out


def test_json_goes_on_until_it_is_interrupted(start, target):
    process = start("top", "--target", target, "--json", "--interval", "0.1")
    times = [datetime.fromisoformat(json.loads(process.stdout.readline())["at"]) for _ in range(3)]
    assert times == sorted(times)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")


def test_a_terminal_gets_a_picture_that_lives_and_leaves_no_trace(start, target):
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = start("top", "--target", target, "--interval", "0.1", env={"TERM": "xterm-256color"}, **streams)
    os.close(terminal)
    seen = b""
    while seen.count(b"gait/1") < 3:
        seen += os.read(master, 65_536)
    process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(master, 65_536):
            seen += chunk
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(master)
    assert process.wait(timeout=60) == 0
    assert b"steps/s" in seen
    assert b"Traceback" not in seen
    # Into the alternate screen, and out of it at the end.
    assert seen.index(b"\x1b[?1049h") < seen.index(b"gait/1")
    assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"gait/1")


def test_a_server_that_is_not_there_is_one_line(statewise):
    assert statewise("top", "--target", "127.0.0.1:1", "--once").complaint


START = datetime(2026, 1, 1, tzinfo=UTC)


def stats(second, *models):
    return ServerStats(
        at=START + timedelta(seconds=second),
        models=models,
        streams=3,
        resident_bytes=50 << 20,
        cpu_seconds=second / 2,
    )


def model(**counts):
    zeros = dict.fromkeys(
        ("sessions", "requests", "steps", "errors", "batches", "batch_rows", "queued_steps", "state_bytes"), 0
    )
    return ModelStats(
        **{"model": "m", "version": 1, "latency_p50_s": None, "latency_p99_s": None, **zeros, **counts}
    )


def drawn(report):
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - ends with the test
    console.print(screen(report, "here:1"))
    console.file.close()
    return console.export_text()


def test_rates_are_per_second_between_the_reports():
    report = activity(
        stats(0, model(steps=100, requests=10, batches=5, batch_rows=50)),
        stats(4, model(steps=4_100, requests=50, batches=15, batch_rows=90, errors=2, latency_p50_s=0.0012)),
    )
    (found,) = report.models
    assert (found.steps_per_s, found.requests_per_s, found.errors_per_s) == (1000.0, 10.0, 0.5)
    assert found.rows_per_batch == 4.0
    assert report.cpu_cores == 0.5
    picture = drawn(report)
    for shown in ("here:1", "3 streams", "50% of a core", "50.0 MiB", "m/1", "1,000", "1.2 ms", "4.0"):
        assert shown in picture


def test_a_version_that_was_loaded_again_has_no_negative_rates():
    report = activity(stats(0, model(steps=500, errors=9)), stats(1, model(steps=20)))
    assert (report.models[0].steps_per_s, report.models[0].errors_per_s) == (20.0, 0.0)


def test_several_models_are_added_up_and_none_is_said():
    report = activity(stats(0), stats(1, model(sessions=2, steps=3), model(model="n", sessions=5, steps=4)))
    totals = drawn(report).splitlines()[-2].split()
    assert totals[:3] == ["all", "7", "7.0"]
    assert "No model is served" in drawn(activity(stats(0), stats(1)))
