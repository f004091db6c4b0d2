"""One request of a bulk run, until each of its rows has an outcome.

What passes is waited out: a server that restarts, drains, or has a full queue. A request that fails for
another reason is cut in two until the row that it fails for is alone, so one row never costs its neighbours.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from statewise.client.bulk._scoring import Outcome, ScoreBatch
from statewise.client.requests import Answers, Call, ClientOptions, Plan, Wait
from statewise.client.stream import Backoff
from statewise.client.values import (
    Failed,
    InternalError,
    InvalidInput,
    LimitReached,
    Overloaded,
    RequestLimits,
    StatewiseError,
    Subject,
    Timeout,
    Unavailable,
    error_of,
)

_PASSING = (Unavailable, Overloaded)
_OF_ROWS = (InvalidInput, LimitReached, Timeout, InternalError)


def score_plan(
    batch: ScoreBatch,
    request_limits: RequestLimits,
    options: ClientOptions,
    *,
    labels: bool,
    timeout_s: float | None,
) -> Plan[list[Outcome]]:
    """The outcome of every row: its outputs, or why there are none.

    Raises:
        StatewiseError: nothing can be scored: no server within `options.retry_for_s`, no such model, no
            permission.
    """
    backoff = Backoff(options.random)
    outcomes: list[Outcome] = [None] * len(batch.rows)
    parts = deque([list(range(len(batch.rows)))])
    attempt = 0
    until_s: float | None = None
    while parts:
        places = parts.popleft()
        try:
            found = yield from _attempt(batch, places, request_limits, labels=labels, timeout_s=timeout_s)
        except _PASSING as error:
            found = [error] * len(places)
        except _OF_ROWS as error:
            if len(places) > 1:
                half = len(places) // 2
                parts.extendleft([places[half:], places[:half]])
            else:
                outcomes[places[0]] = error
            continue
        passing = [place for place, outcome in enumerate(found) if isinstance(outcome, _PASSING)]
        for place, outcome in zip(places, found, strict=True):
            outcomes[place] = outcome
        if not passing:
            attempt, until_s = 0, None
            continue
        if len(passing) < len(places):
            attempt, until_s = 0, None
        now_s = options.clock()
        until_s = now_s + options.retry_for_s if until_s is None else until_s
        reason = found[passing[0]]
        assert isinstance(reason, StatewiseError)
        if now_s >= until_s:
            raise reason
        parts.appendleft([places[place] for place in passing])
        delay_s = backoff.delay_s(attempt)
        if isinstance(reason, Overloaded):
            delay_s = max(delay_s, reason.retry_after_s)
        yield Wait(min(delay_s, until_s - now_s))
        attempt += 1
    return outcomes


def _attempt(
    batch: ScoreBatch,
    places: Sequence[int],
    request_limits: RequestLimits,
    *,
    labels: bool,
    timeout_s: float | None,
) -> Plan[list[Outcome]]:
    model = batch.model
    query = batch.query(places)
    answers = Answers(query, model)
    for first_row, request in query.requests(
        request_limits, version=model.version, timeout_s=timeout_s, labels=labels
    ):
        try:
            responses: list[Any] = yield Call("Predict", request, timeout_s)
        except Failed as failed:
            raise error_of(failed.status, Subject("", model.name, model.version)) from None
        for response in responses:
            try:
                answers.add(first_row, response)
            except (ValueError, IndexError) as error:
                raise InternalError(f"a reply that makes no sense: {error}") from error
    return answers.outcomes(labels=labels)
