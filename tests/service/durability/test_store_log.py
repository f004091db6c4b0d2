"""Logs failures of a store by the thousand: a reason is told once a minute, and a minute has few lines."""

import logging

import pytest

from statewise.service.dataplane.durability import StoreLog
from statewise.service.stores import StoreUnavailable


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_reasons_that_alternate_are_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = StoreLog(clock)
    for minute in (1, 2):
        for attempt in range(1000):
            log.error("nothing is stored", StoreUnavailable(f"file {attempt % 2} is full"))
        assert len(caplog.records) == 2 * minute
        clock.now_s += 60.0


def test_an_outage_after_another_is_told(caplog: pytest.LogCaptureFixture) -> None:
    log = StoreLog(Clock())
    for _ in range(3):
        log.error("nothing is stored", StoreUnavailable("full"))
        log.back()
    assert [line.levelname for line in caplog.records] == ["ERROR", "INFO"] * 3


def test_a_minute_has_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = StoreLog(clock)
    for attempt in range(1000):
        log.error("nothing is stored", StoreUnavailable(f"reason {attempt}"))
        log.back()
    assert len(caplog.records) == 21
    assert "left out" in caplog.records[-1].getMessage()
    clock.now_s += 60.0
    log.error("nothing is stored", StoreUnavailable("full"))
    assert caplog.records[-1].getMessage() == "nothing is stored: full"
