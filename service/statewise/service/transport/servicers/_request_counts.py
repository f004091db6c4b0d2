"""Counts requests by operation and outcome, for streams and unary calls."""

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
    """Counts one request when the `with` block ends; the exception that ends the block gives the outcome.

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
    """Decorates a coroutine method that answers one request: counts the request and its failed rows."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        async def counting(self: _HasStatistics, request: Any, **options: Any) -> Any:
            with RequestCount(self.statistics, operation):
                reply = await method(self, request, **options)
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
    # Cancelling a request that a generator serves closes the generator.
    cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return Reason.CANCELLED if cancelled else Reason.INTERNAL
