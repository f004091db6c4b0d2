"""Checks that the benchmarks of the session store run, and report what they promise to."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.long


def reports(module: str, folder: Path, *options: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Runs a benchmark; returns its rows by title of the report and name of the row."""
    file = folder / "figures.json"
    command = [sys.executable, "-m", f"bench.{module}", "--short", "--json", str(file), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {
        report["title"]: {row["name"]: row for row in report["rows"]}
        for report in json.loads(file.read_text())
    }


def test_servers_with_stores_are_compared_with_one_without(tmp_path: Path) -> None:
    streams, batches, disk = reports("store", tmp_path).values()
    for rows in (streams, batches):
        assert all(rows[name]["cpu_us"] > 0 for name in ("no store", "sqlite"))
        assert rows["sqlite"]["rows_a_tick"] > 0
        judged = [name for name in rows if name.startswith("ratio sqlite:")]
        assert [rows[name]["aim"] >= rows[name]["cpu"] for name in judged] == [judged[0].endswith(" met")]
    assert streams["sqlite, reply"]["ticks"] > streams["sqlite"]["ticks"]
    assert disk["sqlite"]["database"] > 64 + 1024


def test_sessions_beyond_the_limit_sleep_and_wake(tmp_path: Path) -> None:
    asleep, woken, starts = reports("hibernation", tmp_path).values()
    assert all(row["awake"] <= 1_200 for name, row in asleep.items() if name.endswith("opened"))
    assert woken["a step by handle, waking"]["messages"] == 200
    assert starts["many"]["seconds"] > 0
