"""Opens, resumes, forks, rewinds, restores and closes sessions, and takes snapshots of them.

Every operation runs after all earlier requests for the same sessions. A row that fails leaves the other rows
alone.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Handles, RowFailure, ServiceError, ServiceLimits
from statewise.service.dataplane.sessions._encoded_states import EncodedStates
from statewise.service.dataplane.sessions._session_directory import OpenedSession, SessionDirectory
from statewise.service.dataplane.sessions._session_turns import SessionTurns
from statewise.service.dataplane.sessions._take_over import ANY_SESSION, ExpectedSessions, take_over
from statewise.service.registry import ModelRegistry
from statewise.service.session_state import SessionTable, Snapshot, Snapshots, pack_state, unpack_state
from statewise.wire import Reason

_T = TypeVar("_T")


class Sessions:
    """Operations on sessions; owners are given by name.

    Args:
        models: The served models.
        table: The sessions.
        directory: Creates, finds and ends sessions.
        turns: Orders operations.
        limits: Limits of every request.
        snapshots: Signs and reads tokens.
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
    ) -> None:
        self._models = models
        self._table = table
        self._directory = directory
        self._turns = turns
        self._limits = limits
        self._snapshots = snapshots

    async def open(
        self,
        name: str,
        version: int,
        session_ids: Sequence[str],
        *,
        owner: str,
        births: Sequence[int] = (),
        only_new: bool = False,
        encoded: EncodedStates | None = None,
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Opens sessions at position 0. A session of that id and model that is open is taken over as it is.

        Args:
            name: Name of the model.
            version: Its version; 0: the default one.
            session_ids: Ids of the sessions.
            owner: Name of their owner.
            births: Births of the sessions that are created, and numbers of the holders; empty: none chosen.
            only_new: Refuses a row whose id names an open session of another birth.
            encoded: Initial states of the rows, and their version, which was found by this name and version
                and serves; None: the model's own.

        Raises:
            ServiceError: MODEL_NOT_FOUND, NOT_STREAMABLE, BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        model = self._models.find(name, version) if encoded is None else encoded.model
        model.require_sessions()
        births = self._one_a_row(births, session_ids)
        number = self._table.owner_number(owner)
        created: dict[int, int] = {}
        failures: dict[int, RowFailure] = {}
        existing: dict[int, int] = {}
        for row, session_id in enumerate(session_ids):
            slot = self._table.find(number, session_id)
            try:
                if slot is None:
                    state = None if encoded is None else encoded.of_row(row)
                    created[row] = self._directory.create(
                        model, number, session_id, origin="open", birth=births[row], state=state
                    )
                else:
                    self._check_model(slot, session_id, name, version)
                    if only_new and births[row] != self._table.birth_of(slot):
                        raise ServiceError(Reason.SESSION_EXISTS, f"session {session_id!r} is open already")
                    existing[row] = slot
            except ServiceError as error:
                failures[row] = RowFailure(row, error.reason, error.message)
        opened = {row: self._directory.describe(slot, created=True) for row, slot in created.items()}
        taken, gone = await take_over(
            self._table,
            self._directory,
            self._turns,
            existing,
            session_ids,
            number,
            ExpectedSessions(holders=births),
        )
        return _in_order({**opened, **taken}), _in_order({**failures, **gone})

    def _check_model(self, slot: int, session_id: str, name: str, version: int) -> None:
        """Raises ServiceError (SESSION_EXISTS) for a session of another model or version (0: any)."""
        package = self._directory.model_of(slot).package
        if package.name != name or version not in (0, package.version):
            raise ServiceError(
                Reason.SESSION_EXISTS,
                f"session {session_id!r} is open with model {package.name!r} version {package.version}",
            )

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
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        self._limits.check_ids(session_ids)
        for column in (expected.births, expected.holders):
            self._limits.check_columns(len(session_ids), len(column) or len(session_ids))
        number = self._table.owner_number(owner)
        existing: dict[int, int] = {}
        failures: dict[int, RowFailure] = {}
        for row, session_id in enumerate(session_ids):
            slot = self._table.find(number, session_id)
            if slot is None:
                failures[row] = self._directory.missing(row, number, session_id)
            else:
                existing[row] = slot
        taken, gone = await take_over(
            self._table, self._directory, self._turns, existing, session_ids, number, expected
        )
        return _in_order(taken), _in_order({**failures, **gone})

    async def fork(
        self, handles: Handles, session_ids: Sequence[str], *, owner: str, births: Sequence[int] = ()
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Copies sessions under new ids. A copy of that id and birth that is open already is left as it is.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        births = self._one_a_row(births, session_ids)
        self._limits.check_columns(len(handles), len(session_ids))
        number = self._table.owner_number(owner)
        forked: dict[int, OpenedSession] = {}

        def copy(row: int, slot: int) -> None:
            repeated = self._directory.repeated(number, session_ids[row], births[row])
            if repeated is not None:
                forked[row] = repeated
                return
            model = self._directory.model_of(slot)
            twin = self._directory.create(
                model,
                number,
                session_ids[row],
                origin="fork",
                birth=births[row],
                state=model.arena.read(self._table.arena_index(slot)),
                position=self._table.view(slot).position,
            )
            forked[row] = self._directory.describe(twin, created=True)

        failures = await self._turns.run_valid(handles, copy, owner=number)
        return _in_order(forked), failures

    async def rewind(
        self, handles: Handles, positions: NDArray[np.uint64], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Takes back the last request of sessions; rewinding to the current position changes nothing.

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
                rewound[row] = self._directory.describe(slot, created=False)
            else:
                failure = self._table.explain(row, int(handles[row]), int(positions[row]), owner=number)
                refused.append(failure)

        failures = await self._turns.run_valid(handles, turn_back, owner=number)
        return _in_order(rewound), sorted(failures + refused, key=lambda failure: failure.row)

    async def snapshot(self, handles: Handles, *, owner: str) -> tuple[list[bytes], list[RowFailure]]:
        """Copies the state of sessions into signed tokens; the sessions stay open.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT.
        """
        self._limits.check_size(len(handles), None)
        tokens: dict[int, bytes] = {}

        def take_out(row: int, slot: int) -> None:
            model = self._directory.model_of(slot)
            view = self._table.view(slot)
            state = pack_state(model.arena.read(self._table.arena_index(slot)))
            package = model.package
            snapshot = Snapshot(
                view.owner, package.name, package.version, package.digest, view.position, state
            )
            tokens[row] = self._snapshots.sign(snapshot)

        failures = await self._turns.run_valid(handles, take_out, owner=self._table.owner_number(owner))
        return _in_order(tokens), failures

    def restore(
        self, tokens: Sequence[bytes], session_ids: Sequence[str], *, owner: str, births: Sequence[int] = ()
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Opens sessions from tokens. A session of that id and birth that is open already is left as it is.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._limits.refuse_when_draining()
        births = self._one_a_row(births, session_ids)
        self._limits.check_columns(len(tokens), len(session_ids))
        number = self._table.owner_number(owner)
        restored: dict[int, OpenedSession] = {}
        failures: dict[int, RowFailure] = {}
        for row, (token, session_id) in enumerate(zip(tokens, session_ids, strict=True)):
            try:
                snapshot = self._snapshots.read(token, owner=owner)
                repeated = self._directory.repeated(number, session_id, births[row])
                if repeated is not None:
                    restored[row] = repeated
                    continue
                model = self._models.find_digest(snapshot.model, snapshot.digest, snapshot.version)
                model.require_sessions()
                state = unpack_state(snapshot.state, model.arena.pairs)
                slot = self._directory.create(
                    model,
                    number,
                    session_id,
                    origin="restore",
                    birth=births[row],
                    state=state,
                    position=snapshot.position,
                )
            except ServiceError as error:
                failures[row] = RowFailure(row, error.reason, error.message)
            else:
                restored[row] = self._directory.describe(slot, created=True)
        return _in_order(restored), _in_order(failures)

    async def close(self, handles: Handles, *, owner: str) -> list[RowFailure]:
        """Ends sessions. Those that have ended already are no failure; void handles are (SESSION_MOVED)."""
        self._limits.check_size(len(handles), None)
        number = self._table.owner_number(owner)
        failures = await self._turns.run_valid(
            handles, lambda _, slot: self._directory.end(slot), owner=number
        )
        return [failure for failure in failures if failure.reason is Reason.SESSION_MOVED]

    def _one_a_row(self, births: Sequence[int], session_ids: Sequence[str]) -> Sequence[int]:
        """Returns a birth for each row, 0 where the request names none; checks the ids, too."""
        self._limits.check_ids(session_ids)
        births = births or [0] * len(session_ids)
        self._limits.check_columns(len(births), len(session_ids))
        return births


def _in_order(by_row: Mapping[int, _T]) -> list[_T]:
    return [by_row[row] for row in sorted(by_row)]
