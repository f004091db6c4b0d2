"""Opens, resumes, rewinds and closes sessions.

Every operation runs after all earlier requests for the same sessions. A row that fails leaves the other rows
alone.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Handles, RowFailure, ServiceError
from statewise.service.dataplane.durability import moved_failure
from statewise.service.dataplane.sessions._initial_states import InitialStates
from statewise.service.dataplane.sessions._session_access import in_order, row_of
from statewise.service.dataplane.sessions._session_directory import OpenedSession
from statewise.service.dataplane.sessions._session_snapshots import SessionSnapshots
from statewise.service.dataplane.sessions._session_turns import Portions
from statewise.service.dataplane.sessions._stored_sessions import StoredSessions
from statewise.service.dataplane.sessions._take_over import ANY_SESSION, ExpectedSessions, take_over
from statewise.service.registry import LoadedModel
from statewise.service.session_state import Durability
from statewise.wire import Reason


class Sessions(SessionSnapshots):
    """Operations on sessions; owners are given by name."""

    @property
    def stored(self) -> StoredSessions | None:
        """Sessions of the store; None: there is no store."""
        return self._stored

    async def open(
        self,
        name: str,
        version: int,
        session_ids: Sequence[str],
        *,
        owner: str,
        births: Sequence[int] = (),
        only_new: bool = False,
        durability: Durability = Durability.OF_SERVER,
        keep: int = 0,
        initial: InitialStates | None = None,
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Opens sessions. A session of that id and model that is open is taken over as it is.

        Args:
            name: Name of the model.
            version: Its version; 0: the default one.
            session_ids: Ids of the sessions.
            owner: Name of their owner.
            births: Births of the sessions that are created, and numbers of the holders; empty: none chosen.
            only_new: Refuses a row whose id names an open session of another birth.
            durability: Of the sessions from then on; OF_SERVER: those that exist keep theirs.
            keep: How many last requests of those that are created can be taken back; 0: 1.
            initial: Initial states of the rows, and their version, which serves; None: the model's own.

        Raises:
            ServiceError: MODEL_NOT_FOUND, NOT_STREAMABLE, BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        keep = self._check_opening(durability, keep)
        model = self._models.find(name, version) if initial is None else initial.model
        model.require_sessions()
        births, number = self.one_a_row(births, session_ids), self._table.owner_number(owner)
        opened, failures = dict[int, OpenedSession](), dict[int, RowFailure]()
        expected = ExpectedSessions(holders=births, durability=durability)
        create = partial(self._create, model, number, durability, keep)

        def find_or_create(row: int, asleep: Mapping[str, ServiceError], existing: dict[int, int]) -> None:
            session_id, birth = session_ids[row], births[row]
            try:
                if (slot := self._table.find(number, session_id)) is not None:
                    self._check_same(slot, session_id, name, version, birth if only_new else None)
                    existing[row] = slot
                elif session_id in asleep:
                    raise asleep[session_id]
                else:
                    opened[row] = create(session_id, birth, *(initial.of_row(row) if initial else (None, 0)))
            except ServiceError as error:
                failures[row] = RowFailure(row, error.reason, error.message)

        async for portion in Portions(range(len(session_ids))):
            existing, own = dict[int, int](), [births[row] for row in portion] if only_new else None
            with self._keeping_named(number, names := [session_ids[row] for row in portion]):
                asleep = await self._wake_own(owner, names, own)
                await self._make_room(number, model, len(portion), keep=keep)
                for row in portion:
                    find_or_create(row, asleep, existing)
                await self._take_over(existing, session_ids, number, expected, opened, failures)
        failures |= await self._settle(opened, told=not all(one.created for one in opened.values()))
        return in_order(opened), in_order(failures)

    def _check_opening(self, durability: Durability, keep: int) -> int:
        """Returns how many requests new sessions keep.

        Raises:
            ServiceError: DRAINING, STORE_UNAVAILABLE; BAD_REQUEST: no session can be opened so.
        """
        self.refuse_changes()
        self._check_durability(durability)
        return self._check_keep(keep)

    def _create(
        self,
        model: LoadedModel,
        owner: int,
        durability: Durability,
        keep: int,
        session_id: str,
        birth: int,
        state: Sequence[Array] | None,
        position: int,
    ) -> OpenedSession:
        """Creates a session that begins in a state (None: the model's own) at a position.

        Raises:
            ServiceError: as `SessionDirectory.create`, and MODEL_NOT_FOUND.
        """
        self._require_serving(model)
        slot = self._directory.create(
            model,
            owner,
            session_id,
            origin="open",
            birth=birth,
            state=state,
            position=position,
            keep=keep,
        )
        self._table.choose_durability(slot, durability)
        return self._directory.describe(slot, created=True)

    async def _take_over(
        self,
        existing: Mapping[int, int],
        session_ids: Sequence[str],
        owner: int,
        expected: ExpectedSessions,
        opened: dict[int, OpenedSession],
        failures: dict[int, RowFailure],
    ) -> None:
        """Takes over a portion's sessions that are open, given by row."""
        if existing:
            taken, gone = await take_over(
                self._table, self._directory, self._turns, existing, session_ids, owner, expected
            )
            opened.update(taken)
            failures.update(gone)

    def _check_same(self, slot: int, session_id: str, name: str, version: int, birth: int | None) -> None:
        """Raises ServiceError (SESSION_EXISTS) for another model, version (0: any) or birth (None: any)."""
        package = self._directory.model_of(slot).package
        if package.name != name or version not in (0, package.version):
            raise ServiceError(
                Reason.SESSION_EXISTS,
                f"session {session_id!r} is open with model {package.name!r} version {package.version}",
            )
        if birth is not None and birth != self._table.birth_of(slot):
            raise ServiceError(Reason.SESSION_EXISTS, f"session {session_id!r} is open already")

    async def resume(
        self,
        session_ids: Sequence[str],
        *,
        owner: str,
        expected: ExpectedSessions = ANY_SESSION,
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Takes sessions over as they are; their earlier handles are void from then on.

        Args:
            session_ids: Ids of the sessions.
            owner: Name of their owner.
            expected: Which sessions are meant; the others fail with SESSION_MOVED.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING; with a store also QUEUE_FULL, STORE_UNAVAILABLE.
        """
        self._limits.refuse_when_draining()
        self._check_durability(expected.durability)
        self._limits.check_ids(session_ids)
        for column in (expected.births, expected.holders):
            self._limits.check_columns(len(session_ids), len(column) or len(session_ids))
        number = self._table.owner_number(owner)
        resumed: dict[int, OpenedSession] = {}
        failures: dict[int, RowFailure] = {}
        async for portion in Portions(range(len(session_ids))):
            existing: dict[int, int] = {}
            births = [expected.births[row] for row in portion] if expected.births else []
            names = [session_ids[row] for row in portion]
            asleep = await self._wake(owner, names, births, guesses=True)
            for row in portion:
                slot = self._table.find(number, session_ids[row])
                error = asleep.get(session_ids[row])
                if error is not None:
                    failures[row] = RowFailure(row, error.reason, error.message)
                elif slot is None:
                    failures[row] = self._directory.missing(row, number, session_ids[row])
                else:
                    existing[row] = slot
            await self._take_over(existing, session_ids, number, expected, resumed, failures)
        failures |= await self._settle(resumed, told=not all(map(expected.keeps_holder, resumed)))
        return in_order(resumed), in_order(failures)

    async def rewind(
        self, handles: Handles, positions: NDArray[np.uint64], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Takes back the last requests of sessions; rewinding to the current position changes nothing.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self.refuse_changes()
        self._limits.check_handles(handles)
        self._limits.check_columns(len(handles), len(positions))
        number = self._table.owner_number(owner)
        rewound: dict[int, OpenedSession] = {}
        refused: list[RowFailure] = []

        def turn_back(row: int, slot: int) -> None:
            if self._directory.model_of(slot).kept.rewind(slot, int(positions[row])):
                rewound[row] = self._directory.describe(slot, created=False)
            else:
                refused.append(self._not_kept(row, slot, int(positions[row])))

        handles = await self._awake(handles, number)
        failures = await self._turns.run_valid(handles, turn_back, owner=number)
        moved = await self._settle(rewound)
        return in_order(rewound), sorted([*failures, *refused, *moved.values()], key=row_of)

    def _not_kept(self, row: int, slot: int, position: int) -> RowFailure:
        """Returns the failure of a row that asks for a position from which nothing is kept."""
        held = int(self._table.position[slot])
        kept = self._directory.model_of(slot).kept.positions_of(slot)
        also = f", or one that is kept: {', '.join(map(str, kept))}" if kept else ", for none is kept"
        message = f"expected the position held, {held}{also}; got {position}"
        return RowFailure(row, Reason.POSITION_MISMATCH, message, position=held)

    async def close(self, handles: Handles, *, owner: str) -> list[RowFailure]:
        """Ends sessions, awake or asleep. Those that have ended already are no failure; void handles are.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, QUEUE_FULL, STORE_UNAVAILABLE.
        """
        self._limits.check_handles(handles)
        number = self._table.owner_number(owner)
        if self._stored is not None:
            handles = await self._stored.handles.in_turn(handles, number)
            self._stored.refuse_ends(len(handles))
            with self._stored.replies.noting_moved() as kept:
                return await self._close(handles, number, kept)
        return await self._close(handles, number, ())

    async def _close(
        self, handles: Handles, number: int, kept: Sequence[NDArray[np.uint64]]
    ) -> list[RowFailure]:
        """Ends sessions; `kept` gets the births of those that another server turns out to have meanwhile."""
        births: dict[int, int] = {}
        failures = await self._end_awake(handles, number, births)
        moved = [failure for failure in failures if failure.reason is Reason.SESSION_MOVED]
        asleep = np.array([one.row for one in failures if one.reason is not Reason.SESSION_MOVED], np.intp)
        if self._stored is not None and len(asleep):
            woken = asleep[await self._stored.sleeping.end(number, handles[asleep])]
            current = self._stored.handles.current(handles[woken], number)
            for failure in await self._end_awake(current, number, {}):
                row = int(woken[failure.row])
                message = f"handle {int(handles[row]):#018x} is void: the session was resumed elsewhere"
                moved.append(RowFailure(row, Reason.SESSION_MOVED, message))
        if self._stored is not None:
            ended = np.array([*births.values()], np.uint64)
            gone = await self._stored.replies.settle(ended)
            for others in kept:
                gone |= np.isin(ended, others)
            moved += [moved_failure(row) for row in np.array([*births], np.intp)[gone].tolist()]
        return sorted(moved, key=row_of)

    async def _end_awake(self, handles: Handles, owner: int, births: dict[int, int]) -> list[RowFailure]:
        """Ends sessions in memory, and notes their births by row. Returns the failures of the other rows."""

        def end(row: int, slot: int) -> None:
            births[row] = self._table.birth_of(slot)
            self._directory.end(slot)

        return await self._turns.run_valid(handles, end, owner=owner)
