"""Ends many waits with few timers, on a clock that the test moves."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.client._async._deadlines import Deadlines
from statewise.client.requests import answer_wait_s
from statewise.client.stream import PendingCall


class Clock:
    """Time and timers, as an event loop has them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, _: Any) -> None:
        return

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay_s, callback, *args)

    def call_at(self, when_s: float, callback: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when_s, callback, args, self)  # type: ignore[arg-type]
        heapq.heappush(self.timers, (when_s, next(self._numbers), timer))
        return timer

    @property
    def armed(self) -> int:
        return sum(not timer.cancelled() for _, _, timer in self.timers)

    def advance(self, to_s: float) -> None:
        while self.timers and self.timers[0][0] <= to_s:
            self.now_s, _, timer = heapq.heappop(self.timers)
            if not timer.cancelled():
                timer._run()
        self.now_s = to_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def deadlines_on(clock: Clock) -> tuple[Deadlines, list[tuple[Any, float, float]]]:
    expired: list[tuple[Any, float, float]] = []

    def expire(pending_call: PendingCall[Any], timeout_s: float) -> None:
        expired.append((pending_call, timeout_s, clock.now_s))

    return Deadlines(clock, expire), expired  # type: ignore[arg-type]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1.0, 2.0, 7.0]),  # timeout
            st.integers(0, 4),  # pause before it begins
            st.one_of(st.none(), st.integers(0, 12)),  # how long it takes; None: for ever
        ),
        max_size=30,
    )
)
def test_what_takes_too_long_expires_when_it_is_due_and_nothing_else(
    waits: list[tuple[float, int, int | None]],
) -> None:
    clock = Clock()
    deadlines, expired = deadlines_on(clock)
    expected: list[tuple[int, float, float]] = []
    begins = itertools.accumulate(pause for _, pause, _ in waits)
    events: list[tuple[float, int, int]] = []
    for number, (begin, (timeout_s, _, takes)) in enumerate(zip(begins, waits, strict=True)):
        events.append((begin, 0, number))
        if takes is not None and takes < answer_wait_s(timeout_s):
            events.append((begin + takes, 1, number))
        else:
            expected.append((number, timeout_s, begin + answer_wait_s(timeout_s)))
    tasks: list[Any] = [object() for _ in waits]
    for at_s, ends, number in sorted(events):
        clock.advance(at_s)
        if ends:
            deadlines.discard(tasks[number], waits[number][0])
        else:
            deadlines.add(tasks[number], waits[number][0])
        assert clock.armed <= 3
    clock.advance(1e6)
    numbered = [(tasks.index(task), timeout_s, at_s) for task, timeout_s, at_s in expired]
    assert sorted(numbered) == [pytest.approx(one) for one in expected]
    assert clock.armed == 0


def test_a_timeout_of_its_own_for_every_wait_leaves_few_timers(clock: Clock) -> None:
    deadlines, expired = deadlines_on(clock)
    for number in range(1000):
        task: Any = object()
        deadlines.add(task, 1.0 + number)
        deadlines.discard(task, 1.0 + number)
    assert clock.armed <= 64
    deadlines.close()
    assert clock.armed == 0
    assert expired == []
