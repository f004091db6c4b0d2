"""Holds up a function of the server, so that a test can look at what happens meanwhile."""

import threading
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Held(Generic[P, T]):
    """A function that, once armed, sets `reached` when it is called, and waits for `go_on`."""

    def __init__(self, function: Callable[P, T]) -> None:
        self._function = function
        self._armed = False
        self.reached, self.go_on = threading.Event(), threading.Event()

    def arm(self) -> None:
        self._armed = True
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._armed:
            self.reached.set()
            assert self.go_on.wait(60)
        return self._function(*args, **kwargs)
