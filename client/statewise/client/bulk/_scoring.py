"""Bulk work without its transport: what is sent together, how much is under way, results in order.

A shell offers samples while there is room (`hungry`), sends what `take` gives, hands back the outcomes, and
passes on `results`. Nothing here waits or knows threads.

Invariant: every sample offered gives exactly one result, in the order of offering, and what is held between
the two is bounded in bytes.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from statewise.client.bulk._samples import Item, Scored, Unreadable
from statewise.client.requests import Query
from statewise.client.values import (
    Array,
    Form,
    InputReader,
    InvalidInput,
    LimitReached,
    ModelInfo,
    RequestLimits,
    Rows,
    StatewiseError,
    Use,
    Value,
    size_bytes,
)

_HELD_BYTES = 64 * 1024 * 1024
"""Inputs and outputs between a source and the caller."""
REQUESTS_IN_FLIGHT = 4
"""Requests under way: while one runs, others travel and are read."""
_REQUEST_BYTES = 1024 * 1024
_FIRST_STEPS = 4096
"""Time steps of requests whose cost is not known yet, or that find nothing under way. As many of these as may
be under way keep the server busy until the first answer is here."""
_GROWTH = 16
"""How many times larger than the one before it a request may become."""
_REQUEST_S = 0.05
"""What one request should cost the server: less wastes messages, more delays what fails or is cancelled."""
_WAVE = 8
"""Requests whose rows are sorted by length among each other, at most: results wait for their whole wave."""
_LINGER_S = 0.1
"""How long a sample waits for company."""
_RESULT_BYTES = 512
"""What a result costs beside its arrays."""

Outcome = Value | StatewiseError


@dataclass(slots=True)
class _Row:
    index: int
    id: object
    kind: tuple[bool, bool]
    """Text, and time steps without an axis of their own, cannot travel with the others."""
    steps: int
    columns: tuple[Array, ...]
    """Of each input; none for a text."""
    text: str
    stepwise: bool
    send_bytes: int
    held_bytes: int
    offered_s: float


_BY_LENGTH = attrgetter("kind", "steps")


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """Rows of one request."""

    model: ModelInfo
    rows: tuple[_Row, ...]
    taken_s: float
    in_flight: int
    """Requests under way when it left, itself included."""

    @property
    def steps(self) -> int:
        """Time steps of all rows."""
        return sum(row.steps for row in self.rows)

    def query(self, places: Sequence[int]) -> Query:
        """The request for some of the rows."""
        rows = [self.rows[place] for place in places]
        if not rows[0].columns:
            return Query(self.model, Form.LIST, len(rows), None, tuple(row.text for row in rows))
        columns = tuple(
            np.concatenate([row.columns[number] for row in rows]) for number in range(len(rows[0].columns))
        )
        steps = np.array([row.steps for row in rows], np.uint32)
        return Query(self.model, Form.LIST, len(rows), Rows(Form.LIST, steps, rows[0].stepwise, columns), ())


class Scoring:
    """One run.

    Args:
        model: the version that runs.
        request_limits: of a request.
        clock: monotonic seconds.
        start: index of the first sample.
    """

    def __init__(
        self, model: ModelInfo, request_limits: RequestLimits, *, clock: Callable[[], float], start: int
    ) -> None:
        self._model = model
        self._reader = InputReader(model)
        self._request_limits = request_limits
        self._clock = clock
        self._waiting: deque[_Row] = deque()
        self._parts: deque[list[_Row]] = deque()
        """The requests to come of what was sorted together."""
        self._waiting_steps = 0
        self._waiting_bytes = 0
        self._ready: dict[int, tuple[Scored, int]] = {}
        self._offered = self._delivered = start
        self._held_bytes = 0
        self._in_flight = 0
        self._ended = False
        self._target_steps = _FIRST_STEPS
        self._longest_steps = request_limits.row_steps
        self._step_bytes = size_bytes(spec for spec in model.outputs if spec.per_step)
        self._result_bytes = _RESULT_BYTES + size_bytes(spec for spec in model.outputs if not spec.per_step)

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
        """Whether every result was given."""
        return self._ended and self._delivered == self._offered

    @property
    def due_in_s(self) -> float | None:
        """When `take` gives something that it does not give yet, for want of company; None: nothing waits."""
        if not self._waiting or self._parts or self._in_flight >= REQUESTS_IN_FLIGHT:
            return None
        return max(self._waiting[0].offered_s + _LINGER_S - self._clock(), 0.0)

    def offer(self, item: Item) -> None:
        """Takes the next sample. One that cannot be sent has its result at once."""
        index, self._offered = self._offered, self._offered + 1
        try:
            if isinstance(item, Unreadable):
                raise item.error
            row = self._row(index, item.id, item.inputs)
        except (InvalidInput, LimitReached) as error:
            self._held_bytes += _RESULT_BYTES
            self._ready[index] = Scored(index, item.id, None, error), _RESULT_BYTES
            return
        self._waiting.append(row)
        self._waiting_steps += row.steps
        self._waiting_bytes += row.send_bytes
        self._held_bytes += row.held_bytes

    def end(self) -> None:
        """The source has no more."""
        self._ended = True

    def take(self) -> ScoreBatch | None:
        """The next request, or None: there is none yet, or enough are under way."""
        if self._in_flight >= REQUESTS_IN_FLIGHT:
            return None
        if not self._parts and self._waiting and self._due():
            self._parts.extend(self._cut(self._next_wave()))
        if not self._parts:
            return None
        self._in_flight += 1
        return ScoreBatch(self._model, tuple(self._parts.popleft()), self._clock(), self._in_flight)

    def answered(self, batch: ScoreBatch, outcomes: Sequence[Outcome]) -> None:
        """Takes what became of a request's rows, in their order."""
        self._in_flight -= 1
        for row, outcome in zip(batch.rows, outcomes, strict=True):
            failed = isinstance(outcome, StatewiseError)
            scored = Scored(row.index, row.id, None if failed else outcome, outcome if failed else None)
            self._ready[row.index] = scored, row.held_bytes
        # A request shares the server with those before it, so its own cost is a part of the time it took.
        cost_s = max((self._clock() - batch.taken_s) / batch.in_flight, 1e-6)
        wanted = batch.steps * _REQUEST_S / cost_s
        self._target_steps = int(min(max(wanted, self._target_steps / 2, 1), self._target_steps * _GROWTH))

    def results(self) -> Iterator[Scored]:
        """Results whose turn has come."""
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

    def _next_wave(self) -> list[_Row]:
        """Rows that wait, the first come, sorted by length: like lengths run together without padding."""
        rows: list[_Row] = []
        steps = 0
        limit = self._steps_limit
        # A server that is about to run out of work is not kept waiting for a long sort.
        wave = limit * (_WAVE if self._in_flight > 1 else 1)
        # What would be left for a small request comes along.
        while self._waiting and (steps < wave or self._waiting_steps < limit):
            row = self._waiting.popleft()
            rows.append(row)
            steps += row.steps
            self._waiting_steps -= row.steps
            self._waiting_bytes -= row.send_bytes
        rows.sort(key=_BY_LENGTH)
        return rows

    def _cut(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """A wave as requests of about the same size."""
        request_limits = self._request_limits
        steps = sum(row.steps for row in rows)
        size = sum(row.send_bytes for row in rows)
        share = size / max(round(steps / self._steps_limit), math.ceil(size / self._bytes_limit), 1)
        part: list[_Row] = []
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

    def _row(self, index: int, name: object, value: object) -> _Row:
        if isinstance(value, str):
            Query.of(self._model, value)
            size = len(value.encode())
            # A character is at most a token, and at least a byte.
            return self._sized(index, name, max(size, 1), (), value, False, size)
        columns, steps, stepwise = self._columns(value)
        return self._sized(index, name, steps, columns, "", stepwise, self._request_limits.cost_bytes(steps))

    def _columns(self, value: object) -> tuple[tuple[Array, ...], int, bool]:
        column = self._reader.column_of_sequence(value)
        if column is not None:
            return (column,), len(column), False
        if isinstance(value, list | tuple):
            value = _as_array(value)
        elif isinstance(value, dict):
            value = {key: _as_array(part) for key, part in value.items()}
        rows = self._reader.read(value, Use.PREDICT)
        if rows.form is not Form.ONE:
            raise InvalidInput(f"expected one sequence; got a batch of {len(rows.steps)}")
        return rows.columns, int(rows.steps[0]), rows.stepwise

    def _sized(
        self,
        index: int,
        name: object,
        steps: int,
        columns: tuple[Any, ...],
        text: str,
        stepwise: bool,
        send_bytes: int,
    ) -> _Row:
        if steps > self._longest_steps or send_bytes > self._request_limits.bytes:
            raise LimitReached(
                f"expected at most {self._longest_steps} time steps a row, what fits into one request; "
                f"got {steps}"
            )
        return _Row(
            index,
            name,
            (bool(columns), stepwise),
            steps,
            columns,
            text,
            stepwise,
            send_bytes,
            send_bytes + self._result_bytes + steps * self._step_bytes,
            self._clock(),
        )


def _as_array(value: object) -> object:
    try:
        return np.asarray(value)
    except ValueError:
        return value  # rows of unequal length: what reads inputs says so
