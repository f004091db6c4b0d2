"""Makes a server whose sessions, states and schedulers note every use outside the thread that made it."""

import inspect
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from statewise.service.registry import ModelRegistry
from statewise.service.scheduling import Scheduler
from statewise.service.session_state import SessionTable, StateArena

T = TypeVar("T")


class OneThread:
    """The thread that may use the objects of the classes that `checked` makes: the one that made this."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.used: Counter[str] = Counter()
        """How often each method was called."""
        self.breaches: list[str] = []
        """Methods that were called in another thread."""

    def checked(self, kind: type[T]) -> type[T]:
        """Returns a class like `kind` whose methods check the thread."""
        methods = {
            name: self._checking(kind, name, method)
            for base in reversed(kind.__mro__[:-1])
            for name, method in vars(base).items()
            if inspect.isfunction(method) and not name.startswith("__")
        }
        made: type[T] = type(kind.__name__, (kind,), methods)
        return made

    def make_table(self, *arguments: Any, **options: Any) -> SessionTable:
        """Makes a session table that checks the thread."""
        return self.checked(SessionTable)(*arguments, **options)

    def make_models(
        self, *arguments: Any, make_scheduler: Callable[..., Scheduler], **options: Any
    ) -> ModelRegistry:
        """Makes a registry whose schedulers and arenas check the thread."""

        def made(engine: Any, arena: StateArena, profile: Any, package: Any) -> Scheduler:
            arena.__class__ = self.checked(StateArena)
            scheduler = make_scheduler(engine, arena, profile, package)
            scheduler.__class__ = self.checked(Scheduler)
            return scheduler

        return ModelRegistry(*arguments, make_scheduler=made, **options)

    def _checking(self, kind: type, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        what = f"{kind.__name__}.{name}"

        @wraps(method)
        def checking(*arguments: Any, **options: Any) -> Any:
            self.used[what] += 1
            if threading.get_ident() != self._thread:
                self.breaches.append(f"{what} in {threading.current_thread().name}")
            return method(*arguments, **options)

        return checking
