"""Runs one request of a bulk run until each of its rows has an outcome.

A server that restarts, drains or has a full queue is waited for. A request that fails for another reason is
cut in two until the failing row is alone, so one row never costs its neighbours.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from statewise.client.bulk._score_batch import ScoreBatch
from statewise.client.bulk._scoring import Outcome
from statewise.client.requests import Answers, Call, ClientOptions, Plan, wait_before_retry
from statewise.client.retries import BULK_RULES
from statewise.client.values import (
    Failed,
    InternalError,
    InvalidInput,
    LimitReached,
    RequestLimits,
    Status,
    Subject,
    Timeout,
    Value,
    error_of,
)

_OF_ROWS = (InvalidInput, LimitReached, Timeout, InternalError)
"""Failures that a single row may cause."""


def score_plan(
    batch: ScoreBatch,
    request_limits: RequestLimits,
    options: ClientOptions,
    *,
    labels: bool,
    timeout_s: float | None,
) -> Plan[list[Outcome]]:
    """Runs a request; returns the outcome of every row: its outputs, or its error.

    Raises:
        StatewiseError: nothing can be scored: no server within `options.retry_for_s`, no such model, no
            permission.
    """
    policy = options.retry_policy(BULK_RULES)
    subject = Subject("", batch.model.name, batch.model.version)
    outcomes: list[Outcome] = [None] * len(batch.rows)
    parts = deque([list(range(len(batch.rows)))])
    while parts:
        indices = parts.popleft()
        try:
            found = yield from _attempt(batch, indices, request_limits, labels=labels, timeout_s=timeout_s)
        except _OF_ROWS as error:
            if len(indices) > 1:
                half = len(indices) // 2
                parts.extendleft([indices[half:], indices[:half]])
            else:
                outcomes[indices[0]] = error
            continue
        again: dict[int, Status] = {}
        for index, outcome in zip(indices, found, strict=True):
            if isinstance(outcome, Status) and BULK_RULES.cover(outcome):
                again[index] = outcome
            else:
                outcomes[index] = error_of(outcome, subject) if isinstance(outcome, Status) else outcome
        if len(again) < len(indices):
            policy.note_progress()
        if again:
            parts.appendleft(list(again))
            yield from wait_before_retry(policy, next(iter(again.values())), subject)
    return outcomes


def _attempt(
    batch: ScoreBatch,
    indices: Sequence[int],
    request_limits: RequestLimits,
    *,
    labels: bool,
    timeout_s: float | None,
) -> Plan[list[Value | Status]]:
    """Sends rows once; returns the outputs of each, or the status with which it or the request failed.

    Raises:
        StatewiseError: the request failed, and the same request would fail again.
    """
    model = batch.model
    query = batch.query(indices)
    answers = Answers(query, model)
    for first_row, request in query.requests(
        request_limits, version=model.version, timeout_s=timeout_s, labels=labels
    ):
        try:
            responses: list[Any] = yield Call("Predict", request, timeout_s)
        except Failed as failed:
            if BULK_RULES.cover(failed.status):
                return [failed.status] * len(indices)
            raise error_of(failed.status, Subject("", model.name, model.version)) from None
        for response in responses:
            try:
                answers.add(first_row, response)
            except (ValueError, IndexError) as error:
                raise InternalError(f"a reply that makes no sense: {error}") from error
    return answers.outcomes(labels=labels)
