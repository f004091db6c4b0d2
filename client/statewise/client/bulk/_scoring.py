"""Decides which samples share a request and how many requests run at once; returns results in order.

A shell offers samples while `hungry`, sends the batches that `take` returns, hands back their outcomes, and
passes `results` on. This module neither waits nor knows threads.

Every sample offered has exactly one result, in the order of offering, and the bytes held between the two are
bounded.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from statewise.client.bulk._samples import Item, Scored
from statewise.client.bulk._score_batch import RESULT_BYTES, RowReader, ScoreBatch, ScoreRow
from statewise.client.values import (
    InvalidInput,
    LimitReached,
    ModelInfo,
    RequestLimits,
    StatewiseError,
    Value,
)

_HELD_BYTES = 64 * 1024 * 1024
"""Inputs and outputs between a source and the caller."""
REQUESTS_IN_FLIGHT = 4
"""Requests under way: while the server runs one, others are sent and read."""
_REQUEST_BYTES = 1024 * 1024
_FIRST_STEPS = 4096
"""Time steps of the first requests, whose cost is not known yet, and of one sent while none is under way.
REQUESTS_IN_FLIGHT requests of this size keep the server busy until the first response arrives."""
_GROWTH = 16
"""How many times larger a request may be than the one before it."""
_REQUEST_S = 0.05
"""Time that one request should cost the server: shorter ones waste messages, longer ones delay failures and
cancelling."""
_WAVE = 8
"""Largest number of requests whose rows are sorted together by length: results wait for their whole wave."""
_LINGER_S = 0.1
"""How long a sample waits for others to share its request."""

Outcome = Value | StatewiseError

_BY_LENGTH = attrgetter("kind", "steps")


class Scoring:
    """The samples, requests and results of one run.

    Args:
        model: the version that runs.
        request_limits: limits of one request.
        clock: monotonic seconds.
        start: index of the first sample.
    """

    def __init__(
        self, model: ModelInfo, request_limits: RequestLimits, *, clock: Callable[[], float], start: int
    ) -> None:
        self._model = model
        self._rows = RowReader(model, request_limits, clock=clock)
        self._request_limits = request_limits
        self._clock = clock
        self._waiting: deque[ScoreRow] = deque()
        self._parts: deque[list[ScoreRow]] = deque()
        """Rows of the requests that are cut from a wave and not sent yet."""
        self._waiting_steps = 0
        self._waiting_bytes = 0
        self._ready: dict[int, tuple[Scored, int]] = {}
        self._offered = self._delivered = start
        self._held_bytes = 0
        self._in_flight = 0
        self._ended = False
        self._target_steps = _FIRST_STEPS

    @property
    def hungry(self) -> bool:
        """Whether more samples should be offered."""
        return not self._ended and self._held_bytes < _HELD_BYTES

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def finished(self) -> bool:
        """Whether all results have been returned."""
        return self._ended and self._delivered == self._offered

    @property
    def due_in_s(self) -> float | None:
        """Seconds until `take` returns samples that wait for others; None: no sample waits."""
        if not self._waiting or self._parts or self._in_flight >= REQUESTS_IN_FLIGHT:
            return None
        return max(self._waiting[0].offered_s + _LINGER_S - self._clock(), 0.0)

    def offer(self, item: Item) -> None:
        """Accepts the next sample. One that cannot be sent has its result at once."""
        index, self._offered = self._offered, self._offered + 1
        try:
            row = self._rows.read(index, item)
        except (InvalidInput, LimitReached) as error:
            self._held_bytes += RESULT_BYTES
            self._ready[index] = _result(index, item, error), RESULT_BYTES
            return
        self._waiting.append(row)
        self._waiting_steps += row.steps
        self._waiting_bytes += row.send_bytes
        self._held_bytes += row.held_bytes

    def end(self) -> None:
        """Notes that the source has no more samples."""
        self._ended = True

    def take(self) -> ScoreBatch | None:
        """Returns the next request; None: no request is due, or enough are under way."""
        if self._in_flight >= REQUESTS_IN_FLIGHT:
            return None
        if not self._parts and self._waiting and self._due():
            self._parts.extend(self._cut(self._next_wave()))
        if not self._parts:
            return None
        self._in_flight += 1
        return ScoreBatch(self._model, tuple(self._parts.popleft()), self._clock(), self._in_flight)

    def answered(self, batch: ScoreBatch, outcomes: Sequence[Outcome]) -> None:
        """Accepts the outcomes of a request's rows, in their order."""
        self._in_flight -= 1
        for row, outcome in zip(batch.rows, outcomes, strict=True):
            self._ready[row.index] = _result(row.index, row.item, outcome), row.held_bytes
        # A request shares the server with those before it, so its own cost is a part of the time it took.
        cost_s = max((self._clock() - batch.taken_s) / batch.in_flight, 1e-6)
        wanted = batch.steps * _REQUEST_S / cost_s
        self._target_steps = int(min(max(wanted, self._target_steps / 2, 1), self._target_steps * _GROWTH))

    def results(self) -> Iterator[Scored]:
        """Yields the results that are next in order."""
        while self._delivered in self._ready:
            scored, held_bytes = self._ready.pop(self._delivered)
            self._delivered += 1
            self._held_bytes -= held_bytes
            yield scored

    @property
    def _steps_limit(self) -> int:
        return min(self._target_steps, self._request_limits.steps)

    @property
    def _bytes_limit(self) -> int:
        return min(_REQUEST_BYTES, self._request_limits.bytes)

    def _next_wave(self) -> list[ScoreRow]:
        """Takes waiting rows in order and sorts them by length: similar lengths need little padding."""
        rows: list[ScoreRow] = []
        steps = 0
        limit = self._steps_limit
        # With one request under way the server is about to run out of work: no time for a long sort.
        wave = limit * (_WAVE if self._in_flight > 1 else 1)
        # Rows that would be left for a small request join this wave.
        while self._waiting and (steps < wave or self._waiting_steps < limit):
            row = self._waiting.popleft()
            rows.append(row)
            steps += row.steps
            self._waiting_steps -= row.steps
            self._waiting_bytes -= row.send_bytes
        rows.sort(key=_BY_LENGTH)
        return rows

    def _cut(self, rows: Sequence[ScoreRow]) -> Iterator[list[ScoreRow]]:
        """Cuts a wave into requests of about the same size."""
        request_limits = self._request_limits
        steps = sum(row.steps for row in rows)
        size = sum(row.send_bytes for row in rows)
        share = size / max(round(steps / self._steps_limit), math.ceil(size / self._bytes_limit), 1)
        part: list[ScoreRow] = []
        steps = size = 0
        for row in rows:
            if part and (
                size >= share
                or size + row.send_bytes > request_limits.bytes
                or steps + row.steps > request_limits.steps
                or len(part) == request_limits.rows
                or row.kind != part[0].kind
            ):
                yield part
                part, steps, size = [], 0, 0
            part.append(row)
            steps += row.steps
            size += row.send_bytes
        yield part

    def _due(self) -> bool:
        return (
            self._waiting_steps >= (self._steps_limit if self._in_flight else _FIRST_STEPS)
            or self._waiting_bytes >= self._bytes_limit
            or len(self._waiting) >= self._request_limits.rows
            or not self.hungry
            or self._clock() >= self._waiting[0].offered_s + _LINGER_S
        )


def _result(index: int, item: Item, outcome: Outcome) -> Scored:
    """Makes the result of a sample; an error says on which line the sample is."""
    if not isinstance(outcome, StatewiseError):
        return Scored(index, item.id, outcome, None, item.file, item.line)
    if item.line is not None:
        name = f"{Path(item.file).name}, " if item.file else ""
        outcome.args = (f"{name}line {item.line}: {outcome}",)
        outcome.detail = f"{name}line {item.line}: {outcome.detail}"
    return Scored(index, item.id, None, outcome, item.file, item.line)
