"""Sends a request about many sessions of a group in one message, and about those that fail alone in one each.

A row that fails, or whose reply is lost, goes on as a `RemoteSession`, which knows how to recover.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from statewise.client.groups._remote_rows import RemoteRows
from statewise.client.groups._row_turns import Index
from statewise.client.sessions import RemoteSession, resolve_uncertainty
from statewise.client.stream import Exchange, Gather, Operation, StreamMultiplexer, pause_before_retry
from statewise.client.values import (
    Failed,
    PartialFailure,
    StatewiseError,
    Status,
    Subject,
    error_of,
    status_of_row,
)
from statewise.wire import Reason, pack_uint64


def _nothing(*_: Any) -> None:
    return


@dataclass(frozen=True, slots=True)
class RowOperation:
    """One operation on many sessions.

    Attributes:
        name: name of the operation in the contract.
        request: makes the request of some rows, without handles.
        results: reads the results of so many rows from a reply, in order.
        alone: does the same with one row, by its index in the group.
        applied: notes that rows succeeded, with their results.
        doubted: notes that the request may have been applied to a row.
        resolves: `alone` itself finds out about uncertain requests before it.
        not_together: reasons for which a row fails that `alone` knows how to deal with.
    """

    name: str
    request: Callable[[Index], Any]
    results: Callable[[Any, int], Sequence[Any]]
    alone: Callable[[RemoteSession, int], Operation[Any]]
    applied: Callable[[Index, Sequence[Any]], None] = _nothing
    doubted: Callable[[RemoteSession, int], None] = _nothing
    resolves: bool = False
    not_together: tuple[str, ...] = ()


def run_on_rows(
    multiplexer: StreamMultiplexer,
    remote: RemoteRows,
    operation: RowOperation,
    rows: Index,
    *,
    most: int,
    subject: Subject,
    apart: Collection[int] = (),
) -> Operation[list[Any]]:
    """Runs an operation on rows whose turn it is; returns, in order, their results or the errors of rows.

    Args:
        multiplexer: the connection.
        remote: the group's sessions.
        operation: what to do.
        rows: indices in the group.
        most: rows of one message.
        subject: named in errors of all rows together.
        apart: rows that take no part in the message.

    Raises:
        StatewiseError: a message failed as a whole.
    """
    outcomes: dict[int, Any] = {}
    single = {*apart, *remote.uncertain_among(rows)}
    together = np.array([row for row in rows.tolist() if row not in single], np.intp)
    alone = [row for row in rows.tolist() if row in single]
    for begin in range(0, len(together), most):
        some = together[begin : begin + most]
        alone += yield from _run_together(multiplexer, remote, operation, some, outcomes, subject)
    yield from _run_alone(remote, operation, alone, outcomes)
    return [outcomes[row] for row in rows.tolist()]


def checked(results: list[Any]) -> list[Any]:
    """Returns the results of rows.

    Raises:
        PartialFailure: some rows failed.
        StatewiseError: all did.
    """
    errors = {place: each for place, each in enumerate(results) if isinstance(each, StatewiseError)}
    if len(errors) == len(results):
        raise errors[0]
    if errors:
        kept = [None if place in errors else each for place, each in enumerate(results)]
        raise PartialFailure(kept, errors)
    return results


def _run_together(
    multiplexer: StreamMultiplexer,
    remote: RemoteRows,
    operation: RowOperation,
    rows: Index,
    outcomes: dict[int, Any],
    subject: Subject,
) -> Operation[list[int]]:
    """Sends one message; returns the rows to go on with alone."""
    request = operation.request(rows)
    request.handles = pack_uint64(remote.handles[rows])
    try:
        reply = yield Exchange(operation.name, [request.SerializeToString()])
    except Failed as failed:
        if _is_doubtful(failed.status):
            for row in rows.tolist():
                session = remote.session(row)
                operation.doubted(session, row)
                remote.take_back(row, session)
        if not (yield from pause_before_retry(multiplexer, multiplexer.retry_policy(), failed.status)):
            raise error_of(failed.status, subject) from None
        return [int(row) for row in rows]
    failures = {error.row: status_of_row(error) for error in reply.errors}
    good = [place for place in range(len(rows)) if place not in failures]
    results = operation.results(reply, len(good))
    if good:
        operation.applied(rows[good], results)
    outcomes.update(zip(rows[good].tolist(), results, strict=True))
    alone = []
    for place, status in failures.items():
        session = remote.session(int(rows[place]))
        if session.retryable(status) or status.reason in operation.not_together:
            alone.append(int(rows[place]))
        else:
            outcomes[int(rows[place])] = error_of(status, session.subject)
    return alone


def _run_alone(
    remote: RemoteRows, operation: RowOperation, rows: Sequence[int], outcomes: dict[int, Any]
) -> Operation[None]:
    if not rows:
        return
    sessions = [remote.session(row) for row in rows]
    found = yield Gather(
        [_resolved(session, row, operation) for row, session in zip(rows, sessions, strict=True)]
    )
    for row, session, outcome in zip(rows, sessions, found, strict=True):
        remote.resolved(row, session)
        outcomes[row] = outcome


def _resolved(session: RemoteSession, row: int, operation: RowOperation) -> Operation[Any]:
    if session.uncertain and not operation.resolves:
        yield from resolve_uncertainty(session)
    return (yield from operation.alone(session, row))


def _is_doubtful(status: Status) -> bool:
    return status.maybe_applied or status.reason == Reason.STORE_UNAVAILABLE
