"""Counts requests by their outcome, whichever way they came: on a stream or in a call of their own."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from statewise.service.base import ServiceError
from statewise.service.telemetry import OK, Statistics
from statewise.wire import Reason

_Method = TypeVar("_Method", bound=Callable[..., Any])


class _Counts(Protocol):
    statistics: Statistics


def counted(operation: str) -> Callable[[_Method], _Method]:
    """Decorates a method that answers one request of an operation."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        async def counting(self: _Counts, request: Any, *rest: Any) -> Any:
            statistics = self.statistics
            try:
                reply = await method(self, request, *rest)
            except ServiceError as error:
                statistics.requests[operation, error.reason] += 1
                raise
            except asyncio.CancelledError:
                statistics.requests[operation, Reason.CANCELLED] += 1
                raise
            except Exception:
                statistics.requests[operation, Reason.INTERNAL] += 1
                raise
            statistics.requests[operation, OK] += 1
            for row_error in getattr(reply, "errors", ()):
                statistics.row_errors[operation, row_error.reason] += 1
            return reply

        return counting  # type: ignore[return-value]

    return decorate
