"""Follows one step by a traced run and compares it with the hops that docs/design.md lists."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from statewise.client import Client
from statewise.service.testing import server_in_thread

ROOT = Path(__file__).parents[2]
MOST_HOPS = {"In the server": 12, "In the client": 9}
SIDES = {"In the server": "service", "In the client": "client"}


@dataclass(frozen=True, slots=True)
class Hop:
    """A function that a step passes: its file, as a path below the package, and its qualified name."""

    file: str
    function: str


@dataclass
class Recorder:
    """The functions of statewise that threads entered during one step."""

    entered: list[tuple[str, Hop]] = field(default_factory=list)

    def hops(self, package: str) -> list[Hop]:
        """Functions of one package, in the order in which they were entered."""
        return [hop for entered, hop in self.entered if entered == package]


@dataclass
class Switch:
    """A profile function for threads; it writes to a recorder while it has one."""

    recorder: Recorder | None = None

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        recorder = self.recorder
        if recorder is None or event != "call":
            return
        _, found, below = frame.f_code.co_filename.rpartition("/statewise/")
        package, _, file = below.partition("/")
        if found and package in SIDES.values():
            recorder.entered.append((package, Hop(file, frame.f_code.co_qualname)))


@contextmanager
def recording_threads(switch: Switch) -> Iterator[None]:
    """Calls the switch in this thread and in threads that are started meanwhile."""
    threading.setprofile(switch)
    sys.setprofile(switch)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def section(title: str) -> str:
    """One side's part of docs/design.md."""
    page = (ROOT / "docs/design.md").read_text()
    text = page.partition(f"\n### {title}\n")[2]
    return re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0]


def listed_hops(title: str) -> list[Hop]:
    """The numbered hops of a side: `file` and `function`."""
    hops = re.findall(r"^\d+\. \[`([\w/]+\.py)`\]\([^)]+\) `([\w.]+)`", section(title), re.MULTILINE)
    return [Hop(file, function) for file, function in hops]


def missing_hops(listed: list[Hop], passed: list[Hop]) -> list[Hop]:
    """Hops that were not passed, or not in this order."""
    rest = iter(passed)
    return [hop for hop in listed if hop not in rest]


def until_last(listed: list[Hop], passed: list[Hop]) -> list[Hop]:
    """What was passed up to the last hop. Later entries may belong to something else."""
    return passed[: passed.index(listed[-1]) + 1]


TRANSPORTS = ("queue", "aio")


def traces_of_steps(repository: Path, transport: str) -> list[Recorder]:
    """Three steps of one session, from the caller to the engine and back, each run on the event loop."""
    recorders = [Recorder() for _ in range(3)]
    current = Switch()
    x = np.ones(3, np.float32)
    with (
        recording_threads(current),
        server_in_thread(repository, inline_s=60.0, transport=transport) as address,
        Client(address) as client,
    ):
        session = client.session("steps")
        session.step(x)  # learns the model and warms up
        for recorder in recorders:
            current.recorder = recorder
            session.step(x)
            current.recorder = None
        session.close()
    return recorders


@pytest.fixture(scope="module")
def traces(repository: Path) -> dict[str, list[Recorder]]:
    """Three steps by each transport."""
    return {transport: traces_of_steps(repository, transport) for transport in TRANSPORTS}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("title", SIDES)
def test_a_step_passes_the_hops_that_are_listed_in_their_order(
    traces: dict[str, list[Recorder]], title: str, transport: str
) -> None:
    listed = listed_hops(title)
    assert 0 < len(listed) <= MOST_HOPS[title]
    for trace in traces[transport]:
        assert missing_hops(listed, trace.hops(SIDES[title])) == []


@pytest.mark.parametrize("title", SIDES)
def test_every_file_that_a_step_passes_is_named(traces: dict[str, list[Recorder]], title: str) -> None:
    """A hop that is missing from the page shows as a file that the page does not name.

    Something else may happen to run during one of the steps, a timer for example, but not during all three.
    """
    listed = listed_hops(title)
    named = set(re.findall(r"`([\w/]+\.py)`", section(title)))
    passed: set[str] = set()
    for traced in traces.values():
        whole = [trace.hops(SIDES[title]) for trace in traced]
        assert set.intersection(*({hop.file for hop in until_last(listed, hops)} for hops in whole)) <= named
        passed.update(hop.file for hops in whole for hop in hops)
    assert named <= passed


def test_a_hop_that_is_not_passed_in_order_is_missing() -> None:
    first, second, third = (Hop(f"{number}.py", "run") for number in range(3))
    assert missing_hops([first, third], [first, second, third]) == []
    assert missing_hops([third, first], [first, second, third]) == [first]
    assert until_last([first, second], [first, second, third]) == [first, second]
