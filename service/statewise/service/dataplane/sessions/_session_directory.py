"""Creates, wakes, finds and ends single sessions: a slot of the table, a row of an arena, shares of quotas.

Knows no requests and no order between them.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from statewise.service.base import Array, RowFailure, ServiceError, ServiceLimits, server_fault
from statewise.service.dataplane.durability import unpack_flags
from statewise.service.registry import LoadedModel, ModelRegistry
from statewise.service.session_state import Quotas, SessionTable, SessionView, StoredQuotas
from statewise.service.stores import StoredCheckpoint, StoredSession, bytes_in_store
from statewise.service.telemetry import Statistics
from statewise.wire import Reason

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session in an answer.

    Attributes:
        view: Its record in the table.
        model: Its version.
        created: Whether the request created the session.
        keep: How many of its last requests can be taken back.
        kept_positions: Positions that it can be taken back to now, the earliest first.
    """

    view: SessionView
    model: LoadedModel
    created: bool
    keep: int
    kept_positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class LackOfRoom:
    """What has to leave memory before sessions can be created.

    Attributes:
        sessions: How many sessions have to leave, of the size of those that come.
        of_owner: Whether they have to be the same owner's.
    """

    sessions: int
    of_owner: bool


class SessionDirectory:
    """Sessions by owner's number and id.

    Args:
        models: The served models.
        table: The sessions.
        limits: Limits of all sessions together, and of each owner's.
        statistics: Counts of the whole server.
        stored_quotas: Limits of what the store keeps; None: there is no store.
    """

    def __init__(
        self,
        models: ModelRegistry,
        table: SessionTable,
        *,
        limits: ServiceLimits,
        statistics: Statistics,
        stored_quotas: StoredQuotas | None = None,
    ) -> None:
        self._models = models
        self._table = table
        self._state_bytes = limits.settings.state_bytes
        # With a store, sessions that are asleep count, too.
        self._quotas = Quotas(
            sessions=limits.settings.owner_sessions if stored_quotas is None else None,
            state_bytes=limits.settings.owner_state_bytes,
        )
        self._stored_quotas = stored_quotas
        self._statistics = statistics

    def create(
        self,
        model: LoadedModel,
        owner: int,
        session_id: str,
        *,
        origin: str,
        birth: int = 0,
        state: Sequence[Array] | None = None,
        position: int = 0,
        keep: int = 1,
        checkpoints: Sequence[StoredCheckpoint] = (),
    ) -> int:
        """Creates a session and gives its slot.

        Args:
            model: The session's version.
            owner: Number of the owner.
            session_id: The session's id.
            origin: The operation, as statistics name it.
            birth: See `SessionTable.add`.
            state: One [*shape] a state pair; None: the model's initial state.
            position: Time steps that the state has consumed.
            keep: How many of its last requests can be taken back.
            checkpoints: Named checkpoints that it begins with.

        Raises:
            ServiceError: SESSION_EXISTS, SESSION_LIMIT, BYTES_LIMIT, BAD_REQUEST; INTERNAL: the state does
                not fit. No session was created.
        """
        if self._table.find(owner, session_id) is not None:
            raise ServiceError(Reason.SESSION_EXISTS, f"session {session_id!r} is open already")
        if birth and self._table.has_birth(birth):
            raise ServiceError(
                Reason.BAD_REQUEST, f"birth {birth} is that of another open session: expected a random number"
            )
        if self._table.is_full:
            raise ServiceError(
                Reason.SESSION_LIMIT, f"{len(self._table)} sessions are open, as many as may be: close some"
            )
        size = model.kept.session_bytes(keep) + sum(one.size_bytes for one in checkpoints)
        self._check_bytes(size)
        is_new = origin != "wake"
        self._take(owner, size, is_new=is_new)
        try:
            row = model.kept.take_row(keep, state)
        except Exception as error:  # nothing of the session exists yet
            self._give_back(owner, size, has_ended=is_new)
            _log.error("a session of %s/%d cannot begin", *model.key, exc_info=error)
            raise server_fault() from None
        self._statistics.opened[origin] += 1
        slot = self._table.add(owner, session_id, model=model.number, row=row, birth=birth)
        if position:
            self._table.set_position(slot, position)
        for one in checkpoints:
            own = replace(one, birth=self._table.birth_of(slot))
            model.kept.checkpoints.add(slot, own, stored=not is_new)
        return slot

    def take_bytes(self, slot: int, size: int) -> None:
        """Counts bytes that a session takes from now on beside its states.

        Raises:
            ServiceError: BYTES_LIMIT: there is no room for them, and nothing was counted.
        """
        self._check_bytes(size)
        owner = self._table.owner_of(slot)
        self._quotas.take_bytes(owner, size)
        if self._stored_quotas is not None:
            try:
                self._stored_quotas.take_bytes(owner, size)
            except ServiceError:
                self._quotas.give_back_bytes(owner, size)
                raise

    def give_back_bytes(self, slot: int, size: int) -> None:
        """Counts bytes that an open session takes no longer beside its states."""
        self._quotas.give_back_bytes(self._table.owner_of(slot), size)
        if self._stored_quotas is not None:
            self._stored_quotas.give_back_bytes(self._table.owner_of(slot), size)

    def _check_bytes(self, size: int) -> None:
        """Raises ServiceError (BYTES_LIMIT) where so many bytes of state have no room."""
        used = self._used_bytes()
        if used + size > self._state_bytes:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the sessions' state fills {used} of {self._state_bytes} bytes: close some",
            )

    def adopt(self, owner: int, stored: StoredSession, model: LoadedModel, keep: int) -> int:
        """Gives a session of the store, which belongs to this server, a slot and a row. Returns the slot.

        Args:
            owner: Number of the owner.
            stored: The session.
            model: Its version.
            keep: How many requests it keeps.

        Raises:
            ServiceError: as of `create`.
        """
        row, flags = stored.row, unpack_flags(int(stored.row["flags"]))
        birth = int(row["birth"])
        slot = self.create(
            model,
            owner,
            stored.session_id,
            origin="wake",
            birth=birth,
            keep=keep,
            checkpoints=stored.checkpoints,
        )
        model.kept.write_session(slot, stored.state)
        self._table.adopt(
            slot,
            holder=int(row["holder"]),
            epoch=int(row["epoch"]),
            position=int(row["position"]),
            previous=int(row["previous_position"]),
            digest=int(row["digest"]),
            parity=flags.parity,
            durability=flags.durability,
        )
        if stored.own:  # its client goes on with the handle that it has, and has seen the epoch
            self._table.go_on(slot, handle=int(row["handle"]), changes=flags.changes)
        return slot

    def lack_of_room(self, owner: int, state_bytes: int, sessions: int) -> LackOfRoom | None:
        """Returns what bytes of an owner's lack room for; None: there is room.

        Args:
            owner: Number of the owner.
            state_bytes: The bytes.
            sessions: New sessions that they are for; 0: for a session that is open.
        """
        size = max(1, state_bytes // max(1, sessions))
        owner_bytes = self._quotas.lack_bytes(owner, state_bytes)
        if owner_bytes:
            return LackOfRoom(math.ceil(owner_bytes / size), of_owner=True)
        lack_bytes = self._used_bytes() + state_bytes - self._state_bytes
        lack = max(self._table.lack_of_slots(sessions) if sessions else 0, math.ceil(lack_bytes / size))
        return LackOfRoom(lack, of_owner=False) if lack > 0 else None

    def _used_bytes(self) -> int:
        return sum(loaded.kept.used_bytes for loaded in self._models)

    def end(self, slot: int, *, cause: str = "closed") -> None:
        """Ends a session and frees all it held; `cause` as statistics name it."""
        model = self.model_of(slot)
        size = model.kept.bytes_of(slot)
        self._give_back(self._table.owner_of(slot), size, has_ended=cause == "closed")
        table = self._table
        remove = {"idle": table.expire, "asleep": table.lose, "moved": table.lose}
        model.kept.give_back(remove.get(cause, table.remove)(slot))
        self._models.free_if_unused(model)
        self._statistics.ended[cause] += 1

    def _take(self, owner: int, state_bytes: int, *, is_new: bool) -> None:
        """Counts a session in memory, and as stored where it is new; with ServiceError it counts nothing."""
        self._quotas.take(owner, state_bytes)
        if is_new and self._stored_quotas is not None:
            try:
                self._stored_quotas.take(owner, bytes_in_store(state_bytes))
            except ServiceError:
                self._quotas.give_back(owner, state_bytes)
                raise

    def _give_back(self, owner: int, state_bytes: int, *, has_ended: bool) -> None:
        """Counts that a session leaves memory, or has ended."""
        self._quotas.give_back(owner, state_bytes)
        if has_ended and self._stored_quotas is not None:
            self._stored_quotas.give_back(owner, bytes_in_store(state_bytes))

    def repeated(self, owner: int, session_id: str, birth: int) -> OpenedSession | None:
        """Returns the session that an earlier request of the same birth created; None: there is none."""
        slot = self._table.find(owner, session_id)
        if not birth or slot is None or self._table.birth_of(slot) != birth:
            return None
        return self.describe(slot, created=True)

    def model_of(self, slot: int) -> LoadedModel:
        """Returns a session's version."""
        return self._models[self._table.model_of(slot)]

    def describe(self, slot: int, *, created: bool) -> OpenedSession:
        """Describes a session as it is now."""
        model = self.model_of(slot)
        keep, positions = model.kept.keep_of(slot), model.kept.positions_of(slot)
        return OpenedSession(self._table.view(slot), model, created, keep, positions)

    def require(self, session_id: str, owner: str) -> int:
        """Returns the slot of a session. Raises ServiceError (SESSION_NOT_FOUND, SESSION_EXPIRED)."""
        number = self._table.known_owner(owner)
        slot = self._table.find(number, session_id)
        if slot is None:
            failure = self.missing(0, number, session_id)
            raise ServiceError(failure.reason, failure.message)
        return slot

    def missing(self, row: int, owner: int, session_id: str) -> RowFailure:
        """Returns the failure of a row whose session is not open."""
        if self._table.has_expired(owner, session_id):
            message = f"session {session_id!r} was idle for too long and has ended"
            return RowFailure(row, Reason.SESSION_EXPIRED, message)
        return RowFailure(row, Reason.SESSION_NOT_FOUND, f"no session {session_id!r} is open")
