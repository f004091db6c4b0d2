"""Loads sessions of a store: as many at a time as one call returns, without damaged ones.

Tells also whether a version of a model can take what was stored.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence

from statewise.service.base import ServiceError
from statewise.service.dataplane.durability._store_thread import StoreThread
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.stores import StoreDamaged, StoredSession
from statewise.wire import Reason

_log = logging.getLogger(__name__)


class UndamagedSessions:
    """The sessions of a store that can be loaded.

    Whoever iterates has one call's sessions in memory, not all that it asked for. Every iteration raises
    ServiceError (STORE_UNAVAILABLE).
    """

    def __init__(self, store: StoreThread) -> None:
        self._store = store

    async def read(self, births: Sequence[int]) -> AsyncIterator[StoredSession]:
        """Yields sessions without claiming them."""
        async for found in self._undamaged(self._store.store.read, births, set()):
            for stored in found:
                if stored is not None:
                    yield stored

    async def claim(self, births: Sequence[int], damaged: set[int]) -> AsyncIterator[StoredSession]:
        """Claims sessions and yields them; adds the births of damaged ones to a set."""
        async for found in self._undamaged(self._store.store.claim, births, damaged):
            for stored in found:
                if stored is not None:
                    yield stored

    async def _undamaged(
        self,
        call: Callable[[Sequence[int]], list[StoredSession | None]],
        births: Sequence[int],
        damaged: set[int],
    ) -> AsyncIterator[list[StoredSession | None]]:
        while births:
            try:
                found = await self._store.ask(call, births)
            except StoreDamaged as error:
                _log.error("stored sessions are damaged: %s", error)
                damaged.update(error.births)
                births = [birth for birth in births if birth not in damaged]
            else:
                births = births[len(found) :]
                yield found

    async def read_own(
        self, owner: str, handles: Sequence[int], note_damaged: Callable[[int], None]
    ) -> AsyncIterator[dict[int, StoredSession]]:
        """Yields those sessions of an owner that belong to this server, by handle.

        Args:
            owner: Name of the owner.
            handles: The handles that the sessions had.
            note_damaged: Gets the handle of each damaged one.
        """
        while handles:
            try:
                found = await self._store.ask(self._store.store.read_own, owner, handles)
            except StoreDamaged as error:
                _log.error("stored sessions are damaged: %s", error)
                births = await self._store.ask(self._store.store.find_handles, handles)
                pairs = zip(handles, births, strict=True)
                damaged = {handle for handle, birth in pairs if birth in error.births}
                for handle in damaged:
                    note_damaged(handle)
                if not damaged:
                    raise ServiceError(Reason.STORE_UNAVAILABLE, "the session store is damaged") from None
                handles = [handle for handle in handles if handle not in damaged]
            else:
                read, handles = handles[: len(found)], handles[len(found) :]
                pairs_read = zip(read, found, strict=True)
                yield {handle: stored for handle, stored in pairs_read if stored is not None}


def keep_of_stored(stored: StoredSession, digest: str, kept: KeptStates) -> int:
    """Returns how many requests a stored session keeps.

    Args:
        stored: The session.
        digest: Digest of the version in memory.
        kept: States of that version's sessions.

    Raises:
        ServiceError: MODEL_CHANGED, SESSION_LOST: the version cannot take the stored states.
    """
    if digest != stored.digest:
        raise ServiceError(
            Reason.MODEL_CHANGED,
            f"session {stored.session_id!r} was stored with another content of model {stored.model!r} "
            f"version {stored.version}",
        )
    keep = kept.keep_of_bytes(stored.state.size)
    if keep is None:
        raise ServiceError(
            Reason.SESSION_LOST, f"the stored state of session {stored.session_id!r} has another size"
        )
    return keep
