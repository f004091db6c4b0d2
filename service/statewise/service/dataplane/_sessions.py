"""The life of sessions: opening, taking over, copying, turning back, taking out, ending, and growing old.

Not their steps (dataplane) and not their columns (table). Every operation keeps its place behind what was
asked of the same sessions before, and a row that cannot be served leaves the other rows alone.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Barrier, Handles, RowFailure, ServiceError, ServiceLimits
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import (
    Quotas,
    SessionTable,
    SessionView,
    Snapshot,
    Snapshots,
    pack_state,
    unpack_state,
)
from statewise.service.telemetry import Statistics
from statewise.wire import Reason

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that a request opened or took over."""

    view: SessionView
    model: LoadedModel
    created: bool


class Sessions:
    """Operations on sessions, for owners by name.

    Args:
        models: What is served.
        table: The sessions.
        limits: What every request has to satisfy.
        snapshots: Signs and reads tokens.
        statistics: Counts of the whole server.
        clock: Seconds, monotonic; the table's.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        limits: ServiceLimits,
        snapshots: Snapshots,
        statistics: Statistics,
        clock: Callable[[], float],
    ) -> None:
        self._models = models
        self._table = table
        self._limits = limits
        self._snapshots = snapshots
        self._statistics = statistics
        self._clock = clock
        self._quotas = Quotas(
            sessions=limits.settings.owner_sessions, state_bytes=limits.settings.owner_state_bytes
        )

    async def open(
        self,
        name: str,
        version: int,
        session_ids: Sequence[str],
        *,
        owner: str,
        begin: Callable[[int], Sequence[Array]] | None = None,
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Opens sessions at position 0; an id that is open with the same model is taken over as it stands.

        Args:
            name: Of the model.
            version: Its version; 0: the default one.
            session_ids: Of the sessions.
            owner: Whose they are.
            begin: Gives the state that a row's session begins in, or refuses the row by ServiceError; None:
                the model's initial state.

        Raises:
            ServiceError: MODEL_NOT_FOUND, NOT_STREAMABLE, BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        model = self._models.find(name, version)
        if not model.package.spec.streamable:
            raise ServiceError(
                Reason.NOT_STREAMABLE, f"model {name!r} keeps no state between calls: use Predict instead"
            )
        self._limits.check_ids(session_ids)
        number = self._table.owner_number(owner)
        created: dict[int, int] = {}
        failures: dict[int, RowFailure] = {}
        existing: dict[int, int] = {}
        for row, session_id in enumerate(session_ids):
            slot = self._table.find(number, session_id)
            if slot is None:
                try:
                    state = None if begin is None else begin(row)
                    created[row] = slot = self._create(model, number, session_id, origin="open")
                    if state is not None:
                        model.arena.write(self._table.arena_index(slot), state)
                except ServiceError as error:
                    failures[row] = RowFailure(row, error.reason, error.message)
            elif self._is_of(slot, name, version):
                existing[row] = slot
            else:
                held = self._models[self._table.model_of(slot)].package
                failures[row] = RowFailure(
                    row,
                    Reason.SESSION_EXISTS,
                    f"session {session_id!r} is open with model {held.name!r} version {held.version}",
                )
        opened = {row: self._opened(slot, created=True) for row, slot in created.items()}
        taken, gone = await self._take_over(existing, session_ids, number)
        opened.update(taken)
        failures.update(gone)
        return _in_order(opened), _in_order(failures)

    async def resume(
        self, session_ids: Sequence[str], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Takes sessions over as they stand; handles given before are void from then on.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        self._limits.check_ids(session_ids)
        number = self._table.owner_number(owner)
        found = {row: self._table.find(number, session_id) for row, session_id in enumerate(session_ids)}
        existing = {row: slot for row, slot in found.items() if slot is not None}
        failures = {
            row: self._not_open(row, number, session_ids[row]) for row, slot in found.items() if slot is None
        }
        taken, gone = await self._take_over(existing, session_ids, number)
        return _in_order(taken), _in_order({**failures, **gone})

    async def fork(
        self, handles: Handles, session_ids: Sequence[str], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Copies sessions under new ids, each as it stands once what was asked of it before has run.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        self._limits.check_ids(session_ids)
        self._limits.check_columns(len(handles), len(session_ids))
        number = self._table.owner_number(owner)
        forked: dict[int, OpenedSession] = {}

        def copy(row: int, slot: int) -> None:
            model = self._models[self._table.model_of(slot)]
            twin = self._create(model, number, session_ids[row], origin="fork")
            model.arena.write(self._table.arena_index(twin), model.arena.read(self._table.arena_index(slot)))
            self._table.set_position(twin, self._table.view(slot).position)
            forked[row] = self._opened(twin, created=True)

        failures = await self._each_held(handles, copy, owner=number)
        return _in_order(forked), failures

    async def rewind(
        self, handles: Handles, positions: NDArray[np.uint64], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Takes back the last request of sessions; going to where a session stands changes nothing.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        self._limits.check_size(len(handles), None)
        self._limits.check_columns(len(handles), len(positions))
        number = self._table.owner_number(owner)
        rewound: dict[int, OpenedSession] = {}
        refused: list[RowFailure] = []

        def turn_back(row: int, slot: int) -> None:
            if self._table.rewind(slot, int(positions[row])):
                rewound[row] = self._opened(slot, created=False)
            else:
                failure = self._table.explain(row, int(handles[row]), int(positions[row]), owner=number)
                refused.append(failure)

        failures = await self._each_held(handles, turn_back, owner=number)
        return _in_order(rewound), sorted(failures + refused, key=lambda failure: failure.row)

    async def snapshot(self, handles: Handles, *, owner: str) -> tuple[list[bytes], list[RowFailure]]:
        """Takes the state of sessions out, as signed tokens; the sessions go on.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT.
        """
        self._limits.check_size(len(handles), None)
        tokens: dict[int, bytes] = {}

        def take_out(row: int, slot: int) -> None:
            model = self._models[self._table.model_of(slot)]
            view = self._table.view(slot)
            state = pack_state(model.arena.read(self._table.arena_index(slot)))
            package = model.package
            snapshot = Snapshot(view.owner, package.name, package.digest, view.position, state)
            tokens[row] = self._snapshots.sign(snapshot)

        failures = await self._each_held(handles, take_out, owner=self._table.owner_number(owner))
        return _in_order(tokens), failures

    def restore(
        self, tokens: Sequence[bytes], session_ids: Sequence[str], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Opens sessions from tokens.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        self._limits.check_ids(session_ids)
        self._limits.check_columns(len(tokens), len(session_ids))
        number = self._table.owner_number(owner)
        restored: dict[int, OpenedSession] = {}
        failures: dict[int, RowFailure] = {}
        for row, (token, session_id) in enumerate(zip(tokens, session_ids, strict=True)):
            try:
                snapshot = self._snapshots.read(token, owner=owner)
                model = self._models.find_digest(snapshot.model, snapshot.digest)
                state = unpack_state(snapshot.state, model.arena.pairs)
                slot = self._create(model, number, session_id, origin="restore")
            except ServiceError as error:
                failures[row] = RowFailure(row, error.reason, error.message)
                continue
            model.arena.write(self._table.arena_index(slot), state)
            self._table.set_position(slot, snapshot.position)
            restored[row] = self._opened(slot, created=True)
        return _in_order(restored), _in_order(failures)

    def expire_idle(self) -> Iterator[int]:
        """Ends the sessions that were idle for longer than the limit, some at a time, and gives how many;
        whoever iterates lets others have their turn in between.
        """
        limit_s = self._clock() - self._limits.settings.idle_timeout_s
        start: int | None = 0
        while start is not None:
            slots, start = self._table.idle_since(limit_s, start)
            for slot in slots:
                self._end(slot, cause="idle")
            yield len(slots)

    async def close(self, handles: Handles, *, owner: str) -> list[RowFailure]:
        """Ends sessions. Those that have ended already are no failure; void handles are (SESSION_MOVED)."""
        self._limits.check_size(len(handles), None)
        failures = await self._each_held(
            handles,
            lambda _, slot: self._end(slot),
            owner=self._table.owner_number(owner),
        )
        return [failure for failure in failures if failure.reason is Reason.SESSION_MOVED]

    def page(
        self, *, owner: str | None, start: int, size: int, model: str
    ) -> tuple[list[OpenedSession], int | None]:
        """A page of an owner's sessions (None: everybody's), and where the next one starts, or None."""
        numbers = [loaded.number for loaded in self._models if not model or loaded.package.name == model]
        number = None if owner is None else self._table.known_owner(owner)
        slots, following = self._table.page(start, size, owner=number, models=numbers)
        return [self._opened(slot, created=False) for slot in slots], following

    def get(self, session_id: str, *, owner: str) -> OpenedSession:
        """One session. Raises ServiceError (SESSION_NOT_FOUND)."""
        return self._opened(self._find(session_id, owner), created=False)

    async def close_by_id(self, session_id: str, *, owner: str) -> None:
        """Ends a session, whoever holds its handle. Raises ServiceError (SESSION_NOT_FOUND)."""
        number = self._table.known_owner(owner)

        def end(_: int, slot: int) -> None:
            if self._table.find(number, session_id) == slot:
                self._end(slot)

        await self._in_turn({0: self._find(session_id, owner)}, end)

    # --- what the above share ---

    def _is_of(self, slot: int, name: str, version: int) -> bool:
        held = self._models[self._table.model_of(slot)].package
        return held.name == name and version in (0, held.version)

    def _find(self, session_id: str, owner: str) -> int:
        number = self._table.known_owner(owner)
        slot = self._table.find(number, session_id)
        if slot is None:
            failure = self._not_open(0, number, session_id)
            raise ServiceError(failure.reason, failure.message)
        return slot

    def _not_open(self, row: int, owner: int, session_id: str) -> RowFailure:
        if self._table.has_expired(owner, session_id):
            message = f"session {session_id!r} was idle for too long and has ended"
            return RowFailure(row, Reason.SESSION_EXPIRED, message)
        return RowFailure(row, Reason.SESSION_NOT_FOUND, f"no session {session_id!r} is open")

    def _create(self, model: LoadedModel, owner: int, session_id: str, *, origin: str) -> int:
        """Opens a session. Raises ServiceError (SESSION_EXISTS, SESSION_LIMIT, BYTES_LIMIT)."""
        if self._table.find(owner, session_id) is not None:
            raise ServiceError(Reason.SESSION_EXISTS, f"session {session_id!r} is open already")
        if self._table.is_full:
            raise ServiceError(
                Reason.SESSION_LIMIT, f"{len(self._table)} sessions are open, as many as may be: close some"
            )
        used = sum(loaded.arena.used_rows * loaded.arena.bytes_per_session for loaded in self._models)
        if used + model.arena.bytes_per_session > self._limits.settings.state_bytes:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the sessions' state fills {used} of {self._limits.settings.state_bytes} bytes: close some",
            )
        self._quotas.take(owner, model.arena.bytes_per_session)
        self._statistics.opened[origin] += 1
        return self._table.add(owner, session_id, model=model.number, row=model.arena.take_row())

    def _end(self, slot: int, *, cause: str = "closed") -> None:
        """Ends a session and gives back all it held."""
        model = self._models[self._table.model_of(slot)]
        self._quotas.give_back(self._table.owner_of(slot), model.arena.bytes_per_session)
        remove = self._table.expire if cause == "idle" else self._table.remove
        model.arena.give_back(remove(slot))
        self._models.free_if_unused(model)
        self._statistics.ended[cause] += 1

    def _opened(self, slot: int, *, created: bool) -> OpenedSession:
        return OpenedSession(self._table.view(slot), self._models[self._table.model_of(slot)], created)

    async def _take_over(
        self, existing: Mapping[int, int], session_ids: Sequence[str], owner: int
    ) -> tuple[dict[int, OpenedSession], dict[int, RowFailure]]:
        """New handles for sessions, each after what was asked of it before."""
        taken: dict[int, OpenedSession] = {}
        gone: dict[int, RowFailure] = {}

        def take(row: int, slot: int) -> None:
            if self._table.find(owner, session_ids[row]) == slot:
                self._table.take_over(slot)
                taken[row] = self._opened(slot, created=False)
            else:
                gone[row] = self._not_open(row, owner, session_ids[row])

        await self._in_turn(existing, take)
        return taken, gone

    async def _each_held(
        self, handles: Handles, action: Callable[[int, int], None], *, owner: int
    ) -> list[RowFailure]:
        """Calls `action(row, slot)` in turn for the handles in force; says why not for the others.

        An action may refuse its row by ServiceError.
        """
        failures: dict[int, RowFailure] = {}
        held: dict[int, int] = {}
        for row, slot in enumerate(self._table.slots_of(handles).tolist()):
            failure = self._table.refusal(row, int(handles[row]), owner=owner)
            if failure is None:
                held[row] = slot
            else:
                failures[row] = failure

        def act(row: int, slot: int) -> None:
            # What was asked before may have ended the session, or taken it over.
            failure = self._table.refusal(row, int(handles[row]), owner=owner)
            try:
                if failure is None:
                    self._table.touch(slot)
                    action(row, slot)
            except ServiceError as error:
                failure = RowFailure(row, error.reason, error.message)
            if failure is not None:
                failures[row] = failure

        await self._in_turn(held, act)
        return _in_order(failures)

    async def _in_turn(self, slots: Mapping[int, int], action: Callable[[int, int], None]) -> None:
        """Calls `action(row, slot)` for sessions once nothing asked of them before is waiting or running."""
        by_model: dict[int, list[tuple[int, int]]] = {}
        for row, slot in slots.items():
            by_model.setdefault(self._table.model_of(slot), []).append((row, slot))
        await asyncio.gather(
            *(self._turn_of(self._models[number], pairs, action) for number, pairs in by_model.items())
        )

    def _turn_of(
        self, model: LoadedModel, pairs: list[tuple[int, int]], action: Callable[[int, int], None]
    ) -> asyncio.Future[None]:
        """Asks at once, so that what is asked later comes later; the future is that of the turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def act() -> None:
            try:
                for row, slot in pairs:
                    action(row, slot)
            except Exception as error:
                if not turn.done():
                    turn.set_exception(error)
            else:
                if not turn.done():
                    turn.set_result(None)

        model.scheduler.submit_barrier(Barrier(np.array([slot for _, slot in pairs], np.intp), act))
        return turn


def _in_order(by_row: Mapping[int, _T]) -> list[_T]:
    return [by_row[row] for row in sorted(by_row)]
