"""Lets requests wait until the sessions of their handles are in memory, in the order they came.

A handle outlives the time in memory of its session: the store knows whose it is, and the session wakes in
any slot. A request that has to wait goes into one line with all others that wait, and a later request with
one of their handles goes there, too.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Handles, ServiceError, Slots, server_fault
from statewise.service.session_state import SessionTable
from statewise.wire import Reason

_log = logging.getLogger(__name__)

_PORTION_ROWS = 1024
"""Handles that are looked up together, unless one request has more."""
_TRIES = 3
"""Times that a request waits whose sessions find no room, though it is the first one."""
LACKS_ROOM = (Reason.SESSION_LIMIT, Reason.BYTES_LIMIT)
"""Why sessions cannot wake where memory is short."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    handles: Handles
    owner: int
    act: Callable[[ServiceError | None], None]
    context: Context = field(default_factory=copy_context)


class SleepingHandles:
    """The requests that wait for sessions to wake.

    Args:
        table: The sessions in memory.
        wake: Brings sessions of an owner's number into memory, by handle; passes over handles of none.
            Returns by handle why one cannot wake now. Raises ServiceError.
        most_rows: Rows of one owner that may wait.
    """

    def __init__(
        self,
        table: SessionTable,
        wake: Callable[[int, Sequence[int]], Awaitable[Mapping[int, ServiceError]]],
        *,
        most_rows: int = 131_072,
    ) -> None:
        self._table = table
        self._wake = wake
        self._most_rows = most_rows
        self._line: deque[_Waiting] = deque()
        self._portion: list[_Waiting] = []
        self._handed_over: dict[asyncio.Future[ServiceError | None], Handles] = {}
        self._waiting: Counter[int] = Counter()
        self._rows: Counter[int] = Counter()
        self._waking: asyncio.Task[None] | None = None

    def find(self, handles: Handles, owner: int) -> Handles | None:
        """Returns the handles by which the table knows a request's sessions; None: the request has to wait.

        Handles that are void, as far as remembered, stay as they are.
        """
        if self._waiting and not self._waiting.keys().isdisjoint(handles.tolist()):
            return None
        if self._handed_over_before(handles):
            return None
        if len(handles) == 1 and self._table.model_of_handle(int(handles[0]), owner=owner) is not None:
            return handles
        current, unknown = self._translate(handles, owner)
        return None if self._perhaps_asleep(handles[unknown], owner) else current

    def wait(self, handles: Handles, owner: int, act: Callable[[ServiceError | None], None]) -> None:
        """Calls a function once the sessions are in memory that a request's handles stand for.

        Args:
            handles: uint64 [rows].
            owner: Number of the caller's owner.
            act: Gets why they cannot wake now; None: what is not in memory now is not asleep, either.

        Raises:
            ServiceError: QUEUE_FULL: too many rows of this owner wait.
        """
        if self._rows[owner] + len(handles) > self._most_rows:
            raise ServiceError(
                Reason.QUEUE_FULL,
                f"{self._rows[owner]} rows of this owner wait for sessions to wake, expected at most "
                f"{self._most_rows}: try again later",
                retry_after_s=0.1,
            )
        self._rows[owner] += len(handles)
        self._waiting.update(handles.tolist())
        self._line.append(_Waiting(handles, owner, act))
        if self._waking is None:
            self._waking = asyncio.ensure_future(self._wake_all())

    async def awake(self, handles: Handles, owner: int) -> Handles:
        """Returns the handles by which the table knows a request's sessions, once they are in memory.

        Raises:
            ServiceError: as of `wait`; why they cannot wake now.
        """
        current = self.find(handles, owner)
        if current is not None:
            return current
        error = await self._turn_of(handles, owner)
        if error is not None:
            raise error
        return self.current(handles, owner)

    @asynccontextmanager
    async def holding(self, handles: Handles, owner: int) -> AsyncIterator[Handles]:
        """Works like `awake`; the sessions stay in memory, and later requests for them wait, meanwhile."""
        current = await self.awake(handles, owner)
        ended: asyncio.Future[ServiceError | None] = asyncio.get_running_loop().create_future()
        self._handed_over[ended] = handles
        try:
            yield current
        finally:
            del self._handed_over[ended]
            ended.set_result(None)

    async def in_turn(self, handles: Handles, owner: int) -> Handles:
        """Returns the handles by which the table knows sessions, once no earlier request waits for them.

        A session for which none waits does not wake. Other handles stay as they are.

        Raises:
            ServiceError: as of `wait`.
        """
        awaited = np.array([one in self._waiting for one in handles.tolist()], np.bool_)
        for earlier in self._handed_over.values():
            awaited |= np.isin(handles, earlier)
        if awaited.any():
            await self._turn_of(handles[awaited], owner)
        return self.current(handles, owner)

    async def _turn_of(self, handles: Handles, owner: int) -> ServiceError | None:
        """Returns when all that waits now has had its turn, and why the sessions cannot wake now."""
        woken: asyncio.Future[ServiceError | None] = asyncio.get_running_loop().create_future()

        def hand_over(error: ServiceError | None) -> None:
            if not woken.done():  # else the caller has left
                self._handed_over[woken] = handles  # until the caller's task goes on
                woken.set_result(error)

        self.wait(handles, owner, hand_over)
        try:
            return await woken
        finally:
            self._handed_over.pop(woken, None)

    def current(self, handles: Handles, owner: int) -> Handles:
        """Returns the handles by which the table knows sessions in memory; other handles stay as they are."""
        return self._translate(handles, owner)[0]

    def awaited_sessions(self) -> Slots:
        """Returns the slots of the sessions in memory that the next requests are for, and perhaps others.

        Sessions of the requests behind these may leave, and wake once more in their turn.
        """
        columns = [*(waiting.handles for waiting in self._portion), *self._handed_over.values()]
        handles = np.concatenate([np.empty(0, np.uint64), *columns])
        slots = self._table.slots_of(handles)
        woken = np.array(self._table.aliases.slots_of(handles.tolist()), np.intp)
        # Where a handle's session sleeps, another one may have the slot that the handle names, and may leave.
        return np.concatenate([slots[self._table.handle[slots] == handles], woken[woken >= 0]])

    async def close(self) -> None:
        """Returns when no request waits any more."""
        while self._waking is not None:
            await asyncio.wait([self._waking])

    def _translate(self, handles: Handles, owner: int) -> tuple[Handles, NDArray[np.intp]]:
        """Returns handles of the table, and the rows of those that are no sessions' of that owner."""
        valid = self._table.are_valid(handles, self._table.slots_of(handles), owner=owner)
        if valid.all():
            return handles, np.empty(0, np.intp)
        rows = np.flatnonzero(~valid)
        slots = np.array(self._table.aliases.slots_of(handles[rows].tolist()), np.intp)
        known = (slots >= 0) & (self._table.owner[slots] == owner)
        current = handles.copy()
        current[rows[known]] = self._table.handle[slots[known]]
        return current, rows[~known]

    def _perhaps_asleep(self, handles: Handles, owner: int) -> list[int]:
        return [one for one in handles.tolist() if one and not self._table.is_known_void(owner, one)]

    async def _wake_all(self) -> None:
        rows, tries = _PORTION_ROWS, 1
        try:
            while self._line:
                while earlier := self._handed_over_before(self._line[0].handles):
                    self._portion = []  # none of its sessions has to stay for the next requests
                    await asyncio.wait(earlier)
                self._portion = self._next_portion(rows)
                errors = await self._wake_portion()
                done = self._act_on_portion(errors, may_fail=tries == _TRIES)
                # Where memory is short, those that are left wait until these have begun.
                tries = 1 if done else tries + 1
                all_done = done == sum(len(waiting.handles) for waiting in self._portion)
                rows = min(2 * rows, _PORTION_ROWS) if all_done else max(1, done)
        finally:
            self._portion = []
            self._waking = None

    def _next_portion(self, most_rows: int) -> list[_Waiting]:
        portion: list[_Waiting] = []
        rows = 0
        for waiting in self._line:
            rows += len(waiting.handles)
            if portion and rows > most_rows:
                break
            portion.append(waiting)
        return portion

    async def _wake_portion(self) -> dict[tuple[int, int], ServiceError]:
        """Wakes what requests wait for. Returns by owner and handle why one cannot wake now."""
        asleep: dict[int, dict[int, None]] = {}
        for waiting in self._portion:
            asleep.setdefault(waiting.owner, {}).update(dict.fromkeys(self._sleepers(waiting)))
        errors: dict[tuple[int, int], ServiceError] = {}
        for owner, handles in asleep.items():
            failures: Mapping[int, ServiceError] = {}
            try:
                if handles:
                    failures = await self._wake(owner, list(handles))
            except ServiceError as error:
                failures = dict.fromkeys(handles, error)
            except Exception as error:
                _log.error("sessions cannot be woken", exc_info=error)
                failures = dict.fromkeys(handles, server_fault())
            errors |= {(owner, handle): error for handle, error in failures.items()}
        return errors

    def _act_on_portion(self, errors: Mapping[tuple[int, int], ServiceError], *, may_fail: bool) -> int:
        """Lets requests go on, up to the first one that has to wait on. Returns their rows.

        Args:
            errors: By owner and handle why one cannot wake now.
            may_fail: Whether the first request is answered where there is no room for it alone.
        """
        done = 0
        for place, waiting in enumerate(self._portion):
            if self._handed_over_before(waiting.handles):
                break
            whys = (errors.get((waiting.owner, handle)) for handle in self._sleepers(waiting))
            error = next(filter(None, whys), None)
            if error is not None and error.reason in LACKS_ROOM and (place or not may_fail):
                break
            self._line.popleft()
            self._forget(waiting)
            done += len(waiting.handles)
            waiting.context.run(_act, waiting, error)
        return done

    def _handed_over_before(self, handles: Handles) -> list[asyncio.Future[ServiceError | None]]:
        """Returns the earlier requests for the sessions that hold them, or go on in the next turn."""
        return [one for one, earlier in self._handed_over.items() if np.isin(handles, earlier).any()]

    def _sleepers(self, waiting: _Waiting) -> list[int]:
        """Returns the handles of a request whose sessions are not in memory, and may sleep."""
        _, unknown = self._translate(waiting.handles, waiting.owner)
        return self._perhaps_asleep(waiting.handles[unknown], waiting.owner)

    def _forget(self, waiting: _Waiting) -> None:
        self._rows[waiting.owner] -= len(waiting.handles)
        if not self._rows[waiting.owner]:
            del self._rows[waiting.owner]
        for handle in waiting.handles.tolist():
            self._waiting[handle] -= 1
            if not self._waiting[handle]:
                del self._waiting[handle]


def _act(waiting: _Waiting, error: ServiceError | None) -> None:
    try:
        waiting.act(error)
    except Exception as failure:
        _log.error("a request that waited for sessions failed", exc_info=failure)
