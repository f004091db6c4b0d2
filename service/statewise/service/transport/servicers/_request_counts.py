"""Counts requests by operation and outcome, on a stream or in a call of their own."""

import asyncio
import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

from statewise.service.base import ServiceError
from statewise.service.telemetry import OK, Statistics
from statewise.wire import Reason

_Method = TypeVar("_Method", bound=Callable[..., Any])


class _HasStatistics(Protocol):
    statistics: Statistics


class RequestCount:
    """Counts one request when the block ends, by how the block ends.

    Args:
        statistics: Gets the count.
        operation: Name of the operation.
    """

    def __init__(self, statistics: Statistics, operation: str) -> None:
        self._statistics = statistics
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self._statistics.requests[self._operation, _outcome(error)] += 1


def counted(operation: str) -> Callable[[_Method], _Method]:
    """Decorates a coroutine method that answers one request; counts failed rows too."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        async def counting(self: _HasStatistics, request: Any) -> Any:
            with RequestCount(self.statistics, operation):
                reply = await method(self, request)
            for row_error in reply.errors:
                self.statistics.row_errors[operation, row_error.reason] += 1
            return reply

        return counting  # type: ignore[return-value]

    return decorate


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return OK
    if isinstance(error, ServiceError):
        return error.reason
    # A generator is closed where its request is cancelled.
    cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return Reason.CANCELLED if cancelled else Reason.INTERNAL
