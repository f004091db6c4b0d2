"""Runs an operation: performs one effect after the other and resolves the operation's future."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from statewise.client.stream._protocols import Effect, Operation, RequestQueue
from statewise.client.values import Failed, InternalError, StatewiseError, Subject, error_of

T = TypeVar("T")


class OperationRunner(Generic[T]):
    """A running operation.

    Args:
        queue: takes the operation's requests.
        operation: the generator that yields effects.
        future: gets the operation's result or failure.
        origin: the caller's span, if there is one.
    """

    __slots__ = ("_operation", "_queue", "effect", "future", "origin")

    def __init__(self, queue: RequestQueue, operation: Operation[T], future: Any, origin: Any = None) -> None:
        self._queue = queue
        self._operation = operation
        self.effect: Effect | None = None
        self.future = future
        self.origin = origin

    def begin(self) -> None:
        """See `PendingCall`."""
        self._advance(self._operation.send, None)

    def close(self) -> None:
        """See `PendingCall`."""
        self._operation.close()

    def resume(self, value: Any) -> None:
        """Continues the operation with the result of its effect."""
        self._advance(self._operation.send, value)

    def throw(self, failed: Failed) -> None:
        """Continues the operation with the failure of its effect."""
        self._advance(self._operation.throw, failed)

    def withdraw(self) -> None:
        """See `PendingCall`."""
        if self.effect is not None and self.effect.withdraw(self._queue, self):
            self.effect = None
            self._operation.close()

    def _advance(self, move: Callable[[Any], Effect], value: Any) -> None:
        self.effect = None
        try:
            effect = move(value)
        except StopIteration as stop:
            if not self.future.done():
                self.future.set_result(stop.value)
        except Exception as error:
            self._fail(error)
        else:
            self.effect = effect
            effect.begin(self._queue, self)

    def _fail(self, error: Exception) -> None:
        if self.future.done():
            return
        if isinstance(error, Failed):
            error = error_of(error.status, Subject())
        elif not isinstance(error, StatewiseError):
            wrapped = InternalError(f"{type(error).__name__}: {error}")
            wrapped.__cause__ = error
            error = wrapped
        self.future.set_exception(error)
