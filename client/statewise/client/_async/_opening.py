"""Opens a session or a group: its caller awaits it, or enters it with `async with`."""

from collections.abc import Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

_Closable = TypeVar("_Closable", bound=AbstractAsyncContextManager[Any, None])


class Opening(Generic[_Closable]):
    """A session or group that is being opened: await it, or enter it with `async with`."""

    def __init__(self, opening: Coroutine[Any, Any, _Closable]) -> None:
        self._opening = opening
        self._opened: _Closable | None = None

    def __await__(self) -> Generator[Any, Any, _Closable]:
        return self._opening.__await__()

    async def __aenter__(self) -> _Closable:
        self._opened = await self._opening
        await self._opened.__aenter__()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        await self._opened.__aexit__(kind, error, trace)
