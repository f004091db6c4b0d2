"""Shows the states of an owner's own sessions, awake and asleep, to tools and analysts.

Looking at a state neither wakes the session nor counts as use. What is in memory is shown as it is now, the
rest as the store has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, ServiceError, ServiceLimits
from statewise.service.dataplane.durability import unpack_flags
from statewise.service.dataplane.sessions import PageStart, Portions, SessionAdministration, StoredSessions
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import SessionTable
from statewise.wire import DTYPES, Reason, StatePair

_ID_BYTES = 140
"""Of an id and a position in a message, at most."""


@dataclass(frozen=True, slots=True)
class ShownState:
    """State of a session.

    Attributes:
        model: Its version.
        position: Time steps that the state has consumed.
        state: One [*shape] a state pair.
    """

    model: LoadedModel
    position: int
    state: Sequence[Array]

    @property
    def named(self) -> Mapping[str, Array]:
        """The states by name."""
        return {pair.input: own for pair, own in zip(self.model.arena.pairs, self.state, strict=True)}


@dataclass(frozen=True, slots=True)
class StateMatrix:
    """States of sessions of one version.

    Attributes:
        session_ids: Ids of the sessions, one a row.
        positions: Their positions, uint64 [rows].
        states: The elements of all states one after another, [rows, S].
    """

    session_ids: Sequence[str]
    positions: NDArray[np.uint64]
    states: Array


class StateListing:
    """States of sessions; owners are given by name.

    Args:
        models: The served models.
        table: The sessions.
        administration: Finds and lists sessions.
        limits: Limits of every request.
        stored: Sessions of the store; None: there is no store.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        administration: SessionAdministration,
        limits: ServiceLimits,
        stored: StoredSessions | None,
    ) -> None:
        self._models = models
        self._table = table
        self._administration = administration
        self._limits = limits
        self._stored = stored

    async def one(self, session_id: str, *, owner: str) -> ShownState:
        """Returns the state of a session.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_EXPIRED, STORE_UNAVAILABLE; where it is asleep also
                SESSION_LOST, and MODEL_NOT_FOUND, MODEL_CHANGED: its version is not in memory.
        """
        found = await self._find([session_id], owner)
        if session_id in found:
            return found[session_id]
        session = await self._administration.get(session_id, owner=owner)
        if session.damaged:
            raise ServiceError(Reason.SESSION_LOST, f"the stored state of session {session_id!r} is damaged")
        if any(one.key == (session.model, session.version) for one in self._models):
            raise ServiceError(
                Reason.MODEL_CHANGED,
                f"session {session_id!r} was stored with another content of model {session.model!r} "
                f"version {session.version}",
            )
        raise ServiceError(
            Reason.MODEL_NOT_FOUND,
            f"the state of session {session_id!r} cannot be read: model {session.model!r} version "
            f"{session.version} is not in memory",
        )

    async def of_ids(self, model: LoadedModel, session_ids: Sequence[str], *, owner: str) -> StateMatrix:
        """Returns the states of those sessions that an owner has of a version.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, WRONG_CALL, QUEUE_FULL, STORE_UNAVAILABLE.
        """
        self._limits.check_ids(session_ids)
        most = self._rows_in_a_message(model)
        if len(session_ids) > most:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"expected at most {most} ids, as many states as a message holds; got {len(session_ids)}",
            )
        return await self._matrix(model, session_ids, owner)

    async def page(
        self, model: LoadedModel, *, owner: str, start: PageStart | None, size: int
    ) -> tuple[StateMatrix, PageStart | None]:
        """Returns states of all sessions that an owner has of a version, and the start of the next page.

        Args:
            model: The version.
            owner: Whose sessions.
            start: None, or the start of a next page.
            size: Rows at most; 0: as many as a message holds.

        Raises:
            ServiceError: BAD_REQUEST: `start` is of another listing; WRONG_CALL, STORE_UNAVAILABLE.
        """
        most = self._rows_in_a_message(model)
        listed, following = await self._administration.listing.page(
            owner=owner, start=start, size=min(size or most, most), model=model.package.name
        )
        ids = [one.session_id for one in listed if one.version == model.package.version and not one.damaged]
        return await self._matrix(model, ids, owner), following

    def _rows_in_a_message(self, model: LoadedModel) -> int:
        """Returns how many rows fill a message. Raises ServiceError (WRONG_CALL) where there is no state."""
        pairs = model.arena.pairs
        if not pairs:
            raise ServiceError(Reason.WRONG_CALL, f"model {model.package.name!r} has no state")
        row_bytes = _width(model) * _dtype_of(pairs).itemsize + _ID_BYTES
        most_bytes = self._limits.settings.message_bytes * 3 // 4
        return max(1, min(self._limits.settings.request_rows, most_bytes // row_bytes))

    async def _matrix(self, model: LoadedModel, session_ids: Sequence[str], owner: str) -> StateMatrix:
        found = await self._find(session_ids, owner)
        ids = [one for one in session_ids if one in found and found[one].model is model]
        states = np.empty((len(ids), _width(model)), _dtype_of(model.arena.pairs))
        async for portion in Portions(range(len(ids))):
            for row in portion:
                states[row] = np.concatenate([np.reshape(own, -1) for own in found[ids[row]].state])
        positions = np.array([found[session_id].position for session_id in ids], np.uint64)
        return StateMatrix(ids, positions, states)

    async def _find(self, session_ids: Sequence[str], owner: str) -> dict[str, ShownState]:
        """Returns the states of those sessions that there are, and whose version is in memory."""
        number = self._table.known_owner(owner)
        found: dict[str, ShownState] = {}
        asleep: list[str] = []
        async for portion in Portions(session_ids):
            for session_id in portion:
                slot = self._table.find(number, session_id)
                if slot is None:
                    asleep.append(session_id)
                else:
                    found[session_id] = self._awake(slot)
        if self._stored is None or not asleep:
            return found
        loaded = {(*model.key, model.package.digest): model for model in self._models}
        read = await self._stored.sleeping.read_named(self._table.owner_number(owner), asleep)
        for session_id, stored in read.items():
            version = loaded.get((stored.model, stored.version, stored.digest))
            if version is not None:
                parity = unpack_flags(int(stored.row["flags"])).parity
                state = version.arena.current_of(stored.state, parity)
                found[session_id] = ShownState(version, int(stored.row["position"]), state)
        return found

    def _awake(self, slot: int) -> ShownState:
        model = self._models[self._table.model_of(slot)]
        state = model.arena.read(self._table.arena_index(slot))
        return ShownState(model, int(self._table.position[slot]), state)


def _width(model: LoadedModel) -> int:
    """Returns the number of elements of all states of a session."""
    return sum(initial.size for initial in model.arena.initial_state)


def _dtype_of(pairs: Sequence[StatePair]) -> np.dtype[np.generic]:
    """Returns the type of a matrix of states: the one that all have, else int64 or float64."""
    dtypes = {DTYPES[pair.dtype] for pair in pairs}
    if len(dtypes) == 1:
        return dtypes.pop()
    whole = all(np.can_cast(dtype, np.int64) for dtype in dtypes)
    return np.dtype(np.int64 if whole else np.float64)
