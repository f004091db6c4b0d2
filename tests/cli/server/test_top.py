"""Checks `statewise top` against a real server with a busy session, and its rates against examples."""

import fcntl
import io
import json
import os
import pty
import signal
import struct
import termios
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.cli.command import pipe, started, statewise

from statewise.cli._top import Activity, activity, screen
from statewise.client import Client, ModelStats, ServerStats
from statewise.service.testing import server_in_thread


@pytest.fixture(scope="module")
def target(repository: Path) -> Iterator[str]:
    """A server with one session that is stepped all the time."""
    with server_in_thread(repository) as address, Client(address) as client:
        ended = threading.Event()

        def step() -> None:
            with client.session("gait") as session:
                while not ended.is_set():
                    session.step(np.zeros(9, np.float32))

        stepping = threading.Thread(target=step)
        stepping.start()
        yield address
        ended.set()
        stepping.join()


def of(report: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = (model for model in report["models"] if model["model"] == name)
    return found


def test_one_report_as_json_has_rates_of_one_interval(target: str) -> None:
    report = statewise("top", "--target", target, "--once", "--json", "--interval", "1").json
    busy, quiet = of(report, "gait"), of(report, "vowels")
    assert busy["steps_per_s"] == busy["requests_per_s"] > 0
    assert (busy["sessions"], busy["rows_per_batch"], busy["errors_per_s"]) == (1, 1.0, 0.0)
    assert 0 < busy["latency_p50_s"] <= busy["latency_p99_s"]
    assert (quiet["steps_per_s"], quiet["latency_p50_s"], quiet["rows_per_batch"]) == (0.0, None, None)
    assert report["streams"] == 1
    assert report["cpu_cores"] > 0
    datetime.fromisoformat(report["at"])


def test_a_pipe_gets_one_plain_report(target: str) -> None:
    done = statewise("top", "--target", target, "--interval", "0.1")
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert "gait/1" in done.out
    assert "vowels/1" in done.out


def test_json_reports_follow_until_interrupted(target: str) -> None:
    with started("top", "--target", target, "--json", "--interval", "0.1") as process:
        reports = [json.loads(pipe(process.stdout).readline()) for _ in range(3)]
        times = [datetime.fromisoformat(report["at"]) for report in reports]
        assert times == sorted(times)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_terminal_gets_a_live_table_on_the_alternate_screen(target: str) -> None:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    seen = b""
    run = ("top", "--target", target, "--interval", "0.1")
    with started(*run, env={"TERM": "xterm-256color"}, terminal=terminal) as process:
        os.close(terminal)
        while seen.count(b"gait/1") < 3:
            seen += os.read(master, 65_536)
        process.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(master, 65_536):
                seen += chunk
        except OSError:  # Linux reports the end of a terminal so
            pass
        os.close(master)
        assert process.wait(timeout=60) == 0
    assert b"steps/s" in seen
    assert b"Traceback" not in seen
    # The command enters the alternate screen first, and leaves it at the end.
    assert seen.index(b"\x1b[?1049h") < seen.index(b"gait/1")
    assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"gait/1")


def test_a_server_that_is_not_there_is_one_line() -> None:
    assert statewise("top", "--target", "127.0.0.1:1", "--once").complaint


START = datetime(2026, 1, 1, tzinfo=UTC)


def stats(second: float, *models: ModelStats) -> ServerStats:
    return ServerStats(
        at=START + timedelta(seconds=second),
        models=models,
        streams=3,
        resident_bytes=50 << 20,
        cpu_seconds=second / 2,
    )


def model(**counts: Any) -> ModelStats:
    zeros = dict.fromkeys(
        ("sessions", "requests", "steps", "errors", "batches", "batch_rows", "queued_steps", "state_bytes"), 0
    )
    return ModelStats(
        **{"model": "m", "version": 1, "latency_p50_s": None, "latency_p99_s": None, **zeros, **counts}
    )


def drawn(report: Activity) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(screen(report, "here:1"))
    return console.export_text()


def test_rates_are_per_second_between_the_reports() -> None:
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


def test_a_version_that_was_loaded_again_has_no_negative_rates() -> None:
    report = activity(stats(0, model(steps=500, errors=9)), stats(1, model(steps=20)))
    assert (report.models[0].steps_per_s, report.models[0].errors_per_s) == (20.0, 0.0)


def test_totals_of_several_models_and_a_remark_for_none() -> None:
    report = activity(stats(0), stats(1, model(sessions=2, steps=3), model(model="n", sessions=5, steps=4)))
    totals = drawn(report).splitlines()[-2].split()
    assert totals[:3] == ["all", "7", "7.0"]
    assert "No model is served" in drawn(activity(stats(0), stats(1)))
