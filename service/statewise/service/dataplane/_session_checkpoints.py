"""Makes, lists and drops named checkpoints of sessions, and takes sessions back to them.

Every operation runs after all earlier requests for the same sessions. A row that fails leaves the other rows
alone.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import (
    Handles,
    RowFailure,
    ServiceError,
    ServiceLimits,
    StoredCheckpoint,
    check_name,
)
from statewise.service.dataplane.sessions import (
    OpenedSession,
    SessionAccess,
    SessionDirectory,
    SessionTurns,
    StoredSessions,
    in_order,
    row_of,
)
from statewise.service.registry import ModelRegistry
from statewise.service.session_state import SessionTable, pack_state, unpack_state
from statewise.wire import Reason

Positions = NDArray[np.uint64]

_MESSAGE_BYTES = 64
"""Of a checkpoint in a listing beside its names, at most."""


class SessionCheckpoints(SessionAccess):
    """Operations on named checkpoints; owners are given by name.

    Args:
        models: The served models.
        table: The sessions.
        directory: Creates, finds and ends sessions.
        turns: Orders operations.
        limits: Limits of every request.
        stored: Sessions of the store; None: there is no store.
        time_of_day: Seconds since 1970.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        directory: SessionDirectory,
        turns: SessionTurns,
        limits: ServiceLimits,
        stored: StoredSessions | None = None,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(models, table, directory=directory, turns=turns, limits=limits, stored=stored)
        self._time_of_day = time_of_day

    async def create(
        self, handles: Handles, names: Sequence[str], positions: Positions | None, *, owner: str
    ) -> tuple[list[StoredCheckpoint], list[RowFailure]]:
        """Keeps the present states of sessions under names; one that is kept already is left as it is.

        Args:
            handles: uint64 [rows].
            names: One a row, or one for all rows.
            positions: Position that each session must be at; None: any.
            owner: Name of the owner.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING, STORE_UNAVAILABLE.
        """
        self.refuse_changes()
        names = self._checked(handles, names, positions)
        self._refuse_when_away(len(handles))
        number = self._table.owner_number(owner)
        made: dict[int, StoredCheckpoint] = {}
        told: dict[int, OpenedSession] = {}
        refused: list[RowFailure] = []

        def keep(row: int, slot: int) -> None:
            if positions is not None and positions[row] != self._table.position[slot]:
                refused.append(self._elsewhere(row, slot, int(positions[row])))
            else:
                made[row] = self._made(slot, names[row])
                told[row] = self._directory.describe(slot, created=False)

        async with self._holding(handles, number) as current:
            await self._make_room_for(current, names, number)
            failures = await self._turns.run_valid(current, keep, owner=number)
        moved = await self._settle(told)
        kept = {row: made[row] for row in told}
        return in_order(kept), sorted([*failures, *refused, *moved.values()], key=row_of)

    async def list_all(
        self, handles: Handles, *, owner: str
    ) -> tuple[list[Sequence[StoredCheckpoint]], list[RowFailure]]:
        """Returns the checkpoints of sessions, in the order in which they were made.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, STORE_UNAVAILABLE.
        """
        self._limits.check_handles(handles)
        number = self._table.owner_number(owner)
        found: dict[int, Sequence[StoredCheckpoint]] = {}
        size = 0

        def look(row: int, slot: int) -> None:
            nonlocal size
            found[row] = self._directory.model_of(slot).kept.checkpoints.of(slot)
            size += sum(one.size_bytes - len(one.state) + _MESSAGE_BYTES for one in found[row])

        handles = await self._awake(handles, number)
        failures = await self._turns.run_valid(handles, look, owner=number)
        limit = self._limits.settings.message_bytes
        if size > limit:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the checkpoints take about {size} bytes, in one message; expected at most {limit}: "
                "ask for fewer sessions at once",
            )
        return in_order(found), failures

    async def delete(self, handles: Handles, names: Sequence[str], *, owner: str) -> list[RowFailure]:
        """Drops checkpoints. A name that a session does not have is no failure.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING, STORE_UNAVAILABLE.
        """
        self.refuse_changes()
        names = self._checked(handles, names, None)
        self._refuse_when_away(len(handles))
        number = self._table.owner_number(owner)
        told: dict[int, OpenedSession] = {}

        def drop(row: int, slot: int) -> None:
            dropped = self._directory.model_of(slot).kept.checkpoints.drop(slot, names[row])
            if dropped is not None:
                self._directory.give_back_bytes(slot, dropped.size_bytes)
            told[row] = self._directory.describe(slot, created=False)

        handles = await self._awake(handles, number)
        failures = await self._turns.run_valid(handles, drop, owner=number)
        moved = await self._settle(told)
        return sorted([*failures, *moved.values()], key=row_of)

    async def go_to(
        self, handles: Handles, names: Sequence[str], positions: Positions | None, *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Takes sessions back to checkpoints; one that is there already is left as it is.

        Args:
            handles: uint64 [rows].
            names: One a row, or one for all rows.
            positions: Position that each session must be at before; None: any.
            owner: Name of the owner.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING, STORE_UNAVAILABLE.
        """
        self.refuse_changes()
        names = self._checked(handles, names, positions)
        number = self._table.owner_number(owner)
        gone: dict[int, OpenedSession] = {}
        refused: list[RowFailure] = []

        def turn_to(row: int, slot: int) -> None:
            kept = self._directory.model_of(slot).kept
            checkpoint = kept.checkpoints.require(slot, names[row])
            if not self._stands_at(slot, checkpoint):
                if positions is not None and positions[row] != self._table.position[slot]:
                    refused.append(self._elsewhere(row, slot, int(positions[row])))
                    return
                state = unpack_state(checkpoint.state, self._directory.model_of(slot).arena.pairs)
                kept.begin_anew(slot, state, position=checkpoint.position)
            gone[row] = self._directory.describe(slot, created=False)

        handles = await self._awake(handles, number)
        failures = await self._turns.run_valid(handles, turn_to, owner=number)
        moved = await self._settle(gone)
        return in_order(gone), sorted([*failures, *refused, *moved.values()], key=row_of)

    def _made(self, slot: int, name: str) -> StoredCheckpoint:
        """Returns the checkpoint of the present state, made now or by an earlier request.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, CHECKPOINT_EXISTS.
        """
        check_name(name, "names of checkpoints")
        checkpoints = self._directory.model_of(slot).kept.checkpoints
        view = self._table.view(slot)
        # Later than the others, also within a millisecond: a store gives them back in this order.
        earlier_ms = max((one.made_ms for one in checkpoints.of(slot)), default=-1)
        present = StoredCheckpoint(
            birth=view.birth,
            name=name,
            position=view.position,
            made_ms=max(int(self._time_of_day() * 1000), earlier_ms + 1),
            origin=view.session_id,
            state=self._present_state(slot),
        )
        found = checkpoints.find(slot, name)
        if found is not None:
            if (found.position, found.state) != (present.position, present.state):
                raise ServiceError(
                    Reason.CHECKPOINT_EXISTS, f"the session has a checkpoint {name!r} of another state"
                )
            return found
        limit = self._limits.settings.session_checkpoints
        if len(checkpoints.of(slot)) >= limit:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the session has {limit} checkpoints, as many as it may have: delete some",
            )
        self._directory.take_bytes(slot, present.size_bytes)
        checkpoints.add(slot, present)
        return present

    def _stands_at(self, slot: int, checkpoint: StoredCheckpoint) -> bool:
        """Returns whether a session has come to a checkpoint by going to it, or need not go to it."""
        return (
            int(self._table.position[slot]) == checkpoint.position
            and not self._directory.model_of(slot).kept.positions_of(slot)
            and self._present_state(slot) == checkpoint.state
        )

    def _present_state(self, slot: int) -> bytes:
        return pack_state(self._directory.model_of(slot).arena.read(self._table.arena_index(slot)))

    def _elsewhere(self, row: int, slot: int, position: int) -> RowFailure:
        held = int(self._table.position[slot])
        message = f"expected the session at position {position}; it is at {held}"
        return RowFailure(row, Reason.POSITION_MISMATCH, message, position=held)

    def _checked(self, handles: Handles, names: Sequence[str], positions: Positions | None) -> Sequence[str]:
        """Returns a name for each row. Raises ServiceError (BAD_TENSOR, BAD_REQUEST, BYTES_LIMIT)."""
        self._limits.check_handles(handles)
        if positions is not None:
            self._limits.check_columns(len(handles), len(positions))
        return self._one_name_a_row(names, len(handles))

    def _refuse_when_away(self, checkpoints: int) -> None:
        """Raises ServiceError (STORE_UNAVAILABLE) where no store can learn of so many changes."""
        if self._stored is not None:
            self._stored.refuse_checkpoints(checkpoints)

    async def _make_room_for(self, handles: Handles, names: Sequence[str], owner: int) -> None:
        """Lets idle sessions leave memory for checkpoints, and learns how much the store has."""
        if self._stored is None:
            return
        slots = self._table.valid_slots(handles, owner=owner)
        copies = [self._models[number].state_bytes for number in self._table.model[slots]]
        most = sum(copies) + sum(len(name) for name in names) * 4 + 256 * len(slots)
        await self._stored.usage.refresh(self._table.owner_name(owner), 0, most)
        await self._stored.room.make(owner, most, 0)
