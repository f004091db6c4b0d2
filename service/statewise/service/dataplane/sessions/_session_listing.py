"""Lists sessions page by page: those in memory by slot, or those of memory and store by owner and id.

A page looks at a bounded number of sessions and wakes none. By owner and id, a session
that wakes or falls asleep between two pages stays where it is: it is listed once.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from statewise.service.base import ServiceError
from statewise.service.dataplane.durability import unpack_flags
from statewise.service.dataplane.sessions._stored_sessions import StoredSessions
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import SessionScan, SessionTable, public_epoch
from statewise.service.stores import ROW, Listed, StoreDamaged, StoredCheckpoint
from statewise.wire import Reason

Residence = Literal["awake", "asleep"]
"""Where a session is: in memory, or in the store alone."""

PageStart = int | tuple[str, str]
"""Where a page starts: at a slot, or behind an owner and an id."""

_STORED_TOGETHER = 256
"""Sessions that one call of the store lists: some milliseconds, in which nothing else is stored."""
_DESCRIBED_TOGETHER = 1024
"""Sessions in memory that a page describes at most: some 20 ms, in which nothing else happens."""
_LOOKED_AT = 1024
"""Sessions that a page looks at, unless it may hold more."""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session in a listing.

    Attributes:
        session_id: The owner's name for it.
        owner: Name of its owner.
        model: Name of its model; empty where damage hides it.
        version: Number of the version.
        position: Time steps consumed.
        durable_position: Time steps that the store has.
        epoch: Raised by resumes and rewinds.
        idle_s: Seconds since its last request.
        state: Where it is.
        nonfinite_state: Whether its state, which is in memory, holds a NaN or an infinite number.
        damaged: Whether the store cannot give it back.
        keep: How many of its last requests can be taken back.
        checkpoint_bytes: Bytes of its named checkpoints, which are in memory.
        checkpoints: The checkpoints, where one session is looked at.
    """

    session_id: str
    owner: str
    model: str
    version: int
    position: int
    durable_position: int
    epoch: int
    idle_s: float
    state: Residence
    nonfinite_state: bool = False
    damaged: bool = False
    keep: int = 1
    checkpoint_bytes: int = 0
    checkpoints: Sequence[StoredCheckpoint] = ()


class SessionListing:
    """Listings of one table and one store.

    Args:
        models: The served models.
        table: The sessions.
        scan: Searches the table.
        stored: Sessions of the store; None: there is no store.
        page_state_bytes: Bytes of states that a page reads at most: some milliseconds' work.
        time_of_day: Seconds since 1970.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        scan: SessionScan,
        stored: StoredSessions | None = None,
        page_state_bytes: int = 16 * 2**20,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._models = models
        self._table = table
        self._scan = scan
        self._stored = stored
        self._page_state_bytes = page_state_bytes
        self._time_of_day = time_of_day

    async def page(
        self,
        *,
        owner: str | None,
        start: PageStart | None,
        size: int,
        model: str,
        state: Residence | None = None,
    ) -> tuple[list[ListedSession], PageStart | None]:
        """Returns a page of sessions, and the start of the next page; None: that was the last.

        Args:
            owner: Whose sessions; None: everybody's.
            start: None, or the start of a next page.
            size: Sessions on the page at most.
            model: Name of their model; empty: any.
            state: Where they are; None: anywhere.

        Raises:
            ServiceError: BAD_REQUEST: `start` is of another listing; STORE_UNAVAILABLE.
        """
        in_memory = self._stored is None or state == "awake"
        if start is not None and isinstance(start, int) != in_memory:
            raise ServiceError(
                Reason.BAD_REQUEST, "expected the page_token of the same listing's earlier page"
            )
        loaded = [one for one in self._models if not model or one.package.name == model]
        if self._stored is not None and not in_memory:
            if start is None and state is None:
                await self._stored.settle()  # what is open now has a place in the store from here on
            after = start if isinstance(start, tuple) else ("", "")
            awake = self._described_together(size, loaded) if state is None else 0
            return await self._by_name(self._stored, owner, after, size=size, model=model, awake=awake)
        if state == "asleep":
            return [], None
        number = None if owner is None else self._table.known_owner(owner)
        slots, following = self._scan.page(
            start if isinstance(start, int) else 0,
            self._described_together(size, loaded),
            owner=number,
            models=[one.number for one in loaded],
        )
        return self.describe(slots), following

    async def stored_one(self, owner: str, session_id: str) -> ListedSession | None:
        """Describes a session that is not in memory; None: the store has none of that name.

        Raises:
            ServiceError: QUEUE_FULL, STORE_UNAVAILABLE.
        """
        if self._stored is None:
            return None
        store = self._stored.store
        birth = await self._stored.sleeping.find(self._table.owner_number(owner), session_id)
        if not birth:
            return None
        try:
            (read,) = await store.ask(store.store.read, [birth])
        except StoreDamaged:
            nothing = np.zeros(1, ROW)[0]
            return self._describe_asleep(Listed(owner, session_id, "", 0, nothing, "damaged"))
        if read is None:
            return None
        listed = self._describe_asleep(Listed(owner, session_id, read.model, read.version, read.row))
        return replace(listed, checkpoints=read.checkpoints)

    def _described_together(self, size: int, loaded: list[LoadedModel]) -> int:
        """Returns how many sessions in memory a page describes: their states are read."""
        largest = max((one.state_bytes for one in loaded), default=0)
        return min(size, _DESCRIBED_TOGETHER, max(1, self._page_state_bytes // max(1, largest)))

    async def _by_name(
        self,
        stored: StoredSessions,
        owner: str | None,
        after: tuple[str, str],
        *,
        size: int,
        model: str,
        awake: int,
    ) -> tuple[list[ListedSession], tuple[str, str] | None]:
        """Returns a page by owner and id, with at most `awake` sessions in memory; 0: it leaves them out."""
        found: list[ListedSession] = []
        described, looked_at = 0, 0
        together = _STORED_TOGETHER if model or not awake else min(size, _STORED_TOGETHER)
        while looked_at < max(size, _LOOKED_AT):
            ended = set(stored.checkpoints.ending)
            listed = await stored.store.ask(
                partial(stored.store.store.list_sessions, owner, after=after, limit=together)
            )
            ended |= stored.checkpoints.ending
            looked_at += together
            taken: list[Listed | int] = []
            for one, place in zip(listed, self._places(listed), strict=True):
                if int(one.row["birth"]) not in ended and self._is_wanted(place, model, awake=bool(awake)):
                    if len(found) + len(taken) == size or (isinstance(place, int) and described == awake):
                        return found + self._describe_all(taken), after
                    taken.append(place)
                    described += isinstance(place, int)
                after = (one.owner, one.session_id)
            found += self._describe_all(taken)
            if len(listed) < together:
                return found, None
            if len(found) == size:
                break
        return found, after

    def _is_wanted(self, place: Listed | int, model: str, *, awake: bool) -> bool:
        if isinstance(place, Listed):
            return model in ("", place.model)
        return awake and model in ("", self._models[self._table.model_of(place)].package.name)

    def _places(self, listed: Sequence[Listed]) -> list[Listed | int]:
        """Returns slots of those that are in memory here, and that no other server has claimed."""
        found: list[tuple[int, int]] = []
        for at, one in enumerate(listed):
            slot = self._table.find(self._table.known_owner(one.owner), one.session_id)
            if slot is not None:
                found.append((at, slot))
        births, _, epochs = self._table.numbers_of(np.array([slot for _, slot in found], np.intp))
        places: list[Listed | int] = list(listed)
        for (at, slot), birth, epoch in zip(found, births.tolist(), epochs.tolist(), strict=True):
            if birth == int(listed[at].row["birth"]) and epoch >= int(listed[at].row["epoch"]):
                places[at] = slot
        return places

    def _describe_all(self, places: Sequence[Listed | int]) -> list[ListedSession]:
        """Describes sessions, in the given order."""
        awake = iter(self.describe([place for place in places if isinstance(place, int)]))
        return [next(awake) if isinstance(place, int) else self._describe_asleep(place) for place in places]

    def describe(self, slots: Sequence[int]) -> list[ListedSession]:
        """Describes sessions in memory as they are now, in the order of the slots."""
        at = np.array(slots, np.intp)
        models, indices = self._table.model[at], self._table.current_index[at]
        nonfinite = np.zeros(len(at), np.bool_)
        for number in np.unique(models).tolist():
            own = models == number
            nonfinite[own] = self._models[number].arena.nonfinite(indices[own])
        return [
            self._describe_awake(slot, nonfinite=wrong)
            for slot, wrong in zip(slots, nonfinite.tolist(), strict=True)
        ]

    def _describe_awake(self, slot: int, *, nonfinite: bool) -> ListedSession:
        view = self._table.view(slot)
        name, version = self._models[view.model].key
        return ListedSession(
            session_id=view.session_id,
            owner=view.owner,
            model=name,
            version=version,
            position=view.position,
            durable_position=view.durable_position,
            epoch=view.epoch,
            idle_s=view.idle_s,
            state="awake",
            nonfinite_state=nonfinite,
            keep=self._models[view.model].kept.keep_of(slot),
            checkpoint_bytes=self._models[view.model].kept.checkpoints.bytes_of(slot),
        )

    def _describe_asleep(self, listed: Listed) -> ListedSession:
        row = listed.row
        return ListedSession(
            session_id=listed.session_id,
            owner=listed.owner,
            model=listed.model,
            version=listed.version,
            position=int(row["position"]),
            durable_position=int(row["position"]),
            # As the next server will see it: how often this one changed since its claim is not stored.
            epoch=public_epoch(int(row["epoch"]) + 1),
            idle_s=max(0.0, self._time_of_day() - int(row["used_ms"]) / 1000),
            state="asleep",
            damaged=listed.damage is not None,
            keep=unpack_flags(int(row["flags"])).keep,
        )
