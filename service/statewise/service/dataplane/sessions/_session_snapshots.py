"""Copies sessions: under other ids, and as signed tokens, from which it opens sessions.

A row that fails leaves the other rows alone.
"""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from statewise.service.base import Array, Handles, RowFailure, ServiceError, ServiceLimits
from statewise.service.dataplane.sessions._session_access import SessionAccess, in_order, row_of
from statewise.service.dataplane.sessions._session_directory import OpenedSession, SessionDirectory
from statewise.service.dataplane.sessions._session_turns import (
    CHECKPOINT_ROWS,
    PORTION_ROWS,
    Portions,
    SessionTurns,
)
from statewise.service.dataplane.sessions._stored_sessions import StoredSessions
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import (
    LEAST_TOKEN_BYTES,
    SessionTable,
    Snapshot,
    Snapshots,
    pack_state,
    unpack_state,
)
from statewise.wire import Reason

_TURN_BYTES = 32 * 2**10
"""Bytes of tokens that are read between two turns of the event loop, unless one token has more: with their
named checkpoints, tokens of one portion may take a hundred times the work of plain ones."""


class SessionSnapshots(SessionAccess):
    """Operations that copy sessions; owners are given by name.

    Args:
        models: The served models.
        table: The sessions.
        directory: Creates, finds and ends sessions.
        turns: Orders operations.
        limits: Limits of every request.
        snapshots: Signs and reads tokens.
        stored: Sessions of the store; None: there is no store.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        directory: SessionDirectory,
        turns: SessionTurns,
        limits: ServiceLimits,
        snapshots: Snapshots,
        stored: StoredSessions | None = None,
    ) -> None:
        super().__init__(models, table, directory=directory, turns=turns, limits=limits, stored=stored)
        self._snapshots = snapshots

    async def fork(
        self,
        handles: Handles,
        session_ids: Sequence[str],
        *,
        owner: str,
        births: Sequence[int] = (),
        checkpoints: Sequence[str] = (),
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Copies sessions under new ids. A copy of that id and birth that is open already is left as it is.

        Args:
            handles: The originals, uint64 [rows].
            session_ids: Ids of the copies.
            owner: Name of the owner.
            births: Births of the copies, 0: none chosen; empty: none.
            checkpoints: Names of the originals' checkpoints to copy, one a row, or one for all rows; an empty
                name: the present state. Empty: the present states.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self.refuse_changes()
        births = self.one_a_row(births, session_ids)
        self._limits.check_columns(len(handles), len(session_ids))
        names = self._one_name_a_row(checkpoints or [""], len(handles))
        number = self._table.owner_number(owner)
        asleep: Mapping[str, ServiceError] = {}
        forked: dict[int, OpenedSession] = {}

        def copy(row: int, slot: int) -> None:
            repeated = self._directory.repeated(number, session_ids[row], births[row])
            if repeated is not None:
                forked[row] = repeated
                return
            if session_ids[row] in asleep:
                raise asleep[session_ids[row]]
            model = self._directory.model_of(slot)
            state, position = self._copied(slot, names[row])
            twin = self._directory.create(
                model,
                number,
                session_ids[row],
                origin="fork",
                birth=births[row],
                state=state,
                position=position,
                keep=model.kept.keep_of(slot),
            )
            self._table.choose_durability(twin, self._table.durability_of(slot))
            forked[row] = self._directory.describe(twin, created=True)

        with self._keeping_named(number, session_ids):
            async with self._holding(handles, number) as current:
                handles = current
                asleep = await self._wake_own(owner, session_ids, births)
                await self._make_room_for_copies(handles, number)
                failures = await self._turns.run_valid(handles, copy, owner=number)
        moved = await self._settle(forked)  # no client could build the copies again
        return in_order(forked), sorted([*failures, *moved.values()], key=row_of)

    async def _make_room_for_copies(self, handles: Handles, owner: int) -> None:
        slots = self._table.valid_slots(handles, owner=owner).tolist()
        for slot in slots[:1]:
            model = self._directory.model_of(slot)
            await self._make_room(owner, model, len(slots), keep=model.kept.keep_of(slot))

    def _copied(self, slot: int, checkpoint: str) -> tuple[list[Array], int]:
        """Returns the state to copy and its position. Raises ServiceError (CHECKPOINT_NOT_FOUND)."""
        model = self._directory.model_of(slot)
        if not checkpoint:
            index, position = self._table.arena_index(slot), int(self._table.position[slot])
            return model.arena.read(index), position
        found = model.kept.checkpoints.require(slot, checkpoint)
        return unpack_state(found.state, model.arena.pairs), found.position

    async def snapshot(
        self, handles: Handles, *, owner: str, checkpoints: bool = False
    ) -> tuple[list[bytes], list[RowFailure]]:
        """Copies the state of sessions into signed tokens; the sessions stay open.

        Args:
            handles: uint64 [rows].
            owner: Name of the owner.
            checkpoints: Whether the tokens carry the named checkpoints, too.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT.
        """
        self._limits.check_handles(handles)
        number = self._table.owner_number(owner)
        handles = await self._awake(handles, number)
        self._check_size_of_all(self._least_tokens_bytes(handles, number, checkpoints=checkpoints))
        tokens: dict[int, bytes] = {}

        def take_out(row: int, slot: int) -> None:
            model = self._directory.model_of(slot)
            view = self._table.view(slot)
            state = pack_state(model.arena.read(self._table.arena_index(slot)))
            package = model.package
            snapshot = Snapshot(
                view.owner,
                package.name,
                package.version,
                package.digest,
                view.position,
                state,
                model.kept.keep_of(slot),
                model.kept.checkpoints.of(slot) if checkpoints else None,
            )
            tokens[row] = self._snapshots.sign(snapshot)

        most = CHECKPOINT_ROWS if checkpoints else PORTION_ROWS
        failures = await self._turns.run_valid(handles, take_out, owner=number, most_rows=most)
        if checkpoints:  # more may have been made meanwhile
            self._check_size_of_all(sum(map(len, tokens.values())))
        return in_order(tokens), failures

    def _least_tokens_bytes(self, handles: Handles, owner: int, *, checkpoints: bool) -> int:
        """Returns how many bytes the tokens take together at least."""
        slots = self._table.slots_of(handles)
        numbers, rows = np.unique(
            self._table.models_of_handles(handles, slots, owner=owner), return_counts=True
        )
        size: int = sum(
            count * (self._models[number].state_bytes + LEAST_TOKEN_BYTES)
            for number, count in zip(numbers.tolist(), rows.tolist(), strict=True)
        )
        if checkpoints:
            for slot in self._table.valid_slots(handles, owner=owner).tolist():
                size += self._directory.model_of(slot).kept.checkpoints.bytes_of(slot)
        return size

    def _check_size_of_all(self, size: int) -> None:
        """Raises ServiceError (BYTES_LIMIT) where the tokens together are longer than a message."""
        limit = self._limits.settings.message_bytes
        if size > limit:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the snapshots take at least {size} bytes, in one message; expected at most {limit}: "
                "ask for fewer at once",
            )

    async def restore(
        self, tokens: Sequence[bytes], session_ids: Sequence[str], *, owner: str, births: Sequence[int] = ()
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Opens sessions from tokens. A session of that id and birth that is open already is left as it is.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self.refuse_changes()
        births = self.one_a_row(births, session_ids)
        self._limits.check_columns(len(tokens), len(session_ids))
        number = self._table.owner_number(owner)
        restored: dict[int, OpenedSession] = {}
        failures: dict[int, RowFailure] = {}

        async def open_from(row: int, why_asleep: ServiceError | None) -> OpenedSession:
            snapshot = self._snapshots.read(tokens[row], owner=owner)
            repeated = self._directory.repeated(number, session_ids[row], births[row])
            if repeated is not None:
                return repeated
            if why_asleep is not None:
                raise why_asleep
            model = self._models.find_digest(snapshot.model, snapshot.digest, snapshot.version)
            model.require_sessions()
            self._check_restored(snapshot)
            await self._make_room_for(number, model, snapshot)
            self._require_serving(model)
            slot = self._directory.create(
                model,
                number,
                session_ids[row],
                origin="restore",
                birth=births[row],
                state=unpack_state(snapshot.state, model.arena.pairs),
                position=snapshot.position,
                keep=snapshot.keep,
                checkpoints=snapshot.checkpoints or (),
            )
            return self._directory.describe(slot, created=True)

        async for portion in Portions(range(len(tokens))):
            names = [session_ids[row] for row in portion]
            with self._keeping_named(number, names):
                asleep = await self._wake_own(owner, names, [births[row] for row in portion])
                read_bytes = 0
                for row in portion:
                    read_bytes += len(tokens[row])
                    if read_bytes > _TURN_BYTES:
                        await asyncio.sleep(0)
                        read_bytes = len(tokens[row])
                    try:
                        restored[row] = await open_from(row, asleep.get(session_ids[row]))
                    except ServiceError as error:
                        failures[row] = RowFailure(row, error.reason, error.message)
        failures |= await self._settle(restored)  # a client could build them again from the tokens alone
        return in_order(restored), in_order(failures)

    def _check_restored(self, snapshot: Snapshot) -> None:
        """Raises ServiceError (BAD_REQUEST, BYTES_LIMIT) where no session may keep what the token says."""
        self._check_keep(snapshot.keep)
        count, limit = len(snapshot.checkpoints or ()), self._limits.settings.session_checkpoints
        if count > limit:
            raise ServiceError(
                Reason.BYTES_LIMIT, f"the snapshot has {count} checkpoints; expected at most {limit}"
            )

    async def _make_room_for(self, owner: int, model: LoadedModel, snapshot: Snapshot) -> None:
        checkpoint_bytes = sum(one.size_bytes for one in snapshot.checkpoints or ())
        if self._stored is not None:
            await self._stored.room.make(owner, model.kept.session_bytes(snapshot.keep) + checkpoint_bytes, 1)
