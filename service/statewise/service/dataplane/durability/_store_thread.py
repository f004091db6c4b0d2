"""Opens the store that the settings name, and uses it in a thread of its own."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from statewise.service.base import Settings, store_unavailable
from statewise.service.dataplane.durability._store_log import StoreLog
from statewise.service.stores import Store, StoreDamaged, StoreError, StoreUnavailable
from statewise.service.stores.sqlite import SqliteStore

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_SQLITE = "sqlite:"
_LONG_S = 0.25


class StoreThread:
    """A store, and the only thread that uses it: one call at a time, in the order of the calls.

    A store that does not answer would let each call wait as long as the one before. Calls that waited when
    such a call began share its failure: however many there are, they wait for two calls at most.

    Args:
        make_store: Opens the store, in that thread.
        clock: Seconds, monotonic.

    Raises:
        StoreError: the store cannot be opened.
    """

    def __init__(
        self, make_store: Callable[[], Store], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.log = StoreLog()
        """Tells why the store fails."""
        self._clock = clock
        self._unanswered_s = -math.inf
        self._why = ""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="statewise-store")
        try:
            self.store = self._executor.submit(make_store).result()
        except BaseException:
            self._executor.shutdown()
            raise

    @classmethod
    def of_settings(cls, settings: Settings) -> Self | None:
        """Opens the store that the settings name; None: they name none. Raises StoreError."""
        if settings.store == "none":
            return None
        if settings.store.startswith(_SQLITE):
            path, synchronous = Path(settings.store.removeprefix(_SQLITE)), settings.store_synchronous
            return cls(lambda: SqliteStore(path, synchronous=synchronous, busy_s=settings.store_answer_s))
        return cls(lambda: _open_redis(settings))

    async def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Calls a method of the store. A caller that leaves does not break it off. Raises StoreError."""
        call = partial(self._run, self._clock(), function, *arguments)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._executor, call))

    def _run(self, asked_s: float, function: Callable[..., _T], *arguments: Any) -> _T:
        """Runs in the store's thread."""
        if asked_s < self._unanswered_s:
            raise StoreUnavailable(self._why)
        begun_s = self._clock()
        try:
            return function(*arguments)
        except StoreUnavailable as error:
            if (
                self._clock() - begun_s >= _LONG_S
            ):  # shorter failures hold nobody up, and may be this call's own
                self._unanswered_s, self._why = begun_s, str(error)
            raise

    async def ask(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Works like `call`, for a request that cannot be answered without the store.

        Raises:
            StoreDamaged: Some sessions are damaged; it names them.
            ServiceError: STORE_UNAVAILABLE.
        """
        try:
            return await self.call(function, *arguments)
        except StoreDamaged as error:
            if error.births:
                raise
            self.log.error("the store is damaged", error)
            raise store_unavailable("the session store is damaged") from None
        except StoreError as error:
            self.log.error("the store does not answer", error)
            raise store_unavailable("the session store does not answer") from None

    async def close(self) -> None:
        """Closes the store and ends the thread. Repeating does nothing."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self.store.close)
        self._executor.shutdown()


def _open_redis(settings: Settings) -> Store:
    try:
        from statewise.service.stores.redis import RedisOptions, RedisStore
    except ImportError:
        raise StoreError(
            'a Redis server as store needs the extra "redis": pip install "statewise[redis]"'
        ) from None

    password = settings.store_password
    store = RedisStore.open(
        RedisOptions(
            url=settings.store,
            password=None if password is None else password.get_secret_value(),
            password_file=settings.store_password_file,
            sentinel_password_file=settings.store_sentinel_password_file,
            prefix=settings.store_prefix,
            connect_timeout_s=settings.store_connect_s,
            timeout_s=settings.store_answer_s,
            ca_file=settings.store_ca,
            certificate_file=settings.store_certificate,
            key_file=settings.store_key,
        )
    )
    for warning in store.persistence().warnings:
        _log.warning("%s", warning)
    return store
