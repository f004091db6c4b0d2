"""Reads and writes the states of sessions, as arrays by name.

Both run after all earlier requests for the same sessions. A row that fails leaves the other rows alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Handles, RowFailure, ServiceError
from statewise.service.dataplane.sessions import OpenedSession, SessionAccess, in_order, row_of
from statewise.service.dataplane.states import given_positions
from statewise.service.inputs import GivenStates
from statewise.service.session_state import NO_POSITION, digest_rows
from statewise.wire import Reason

_WRITE = 0x5752495445
"""Part of the digest of every written state, so that it differs from that of a step with the same bytes."""
_ROW_BYTES = 8
"""Of a position."""


@dataclass(frozen=True, slots=True)
class ReadStates:
    """States of sessions, and where they stand.

    Attributes:
        state: By the name of the state, of the rows that succeeded, [rows, *shape] each.
        positions: Their positions, uint64 [rows].
        failures: The other rows.
    """

    state: Mapping[str, Array]
    positions: NDArray[np.uint64]
    failures: Sequence[RowFailure]


class SessionStates(SessionAccess):
    """Operations on the states of sessions; owners are given by name."""

    async def read(self, handles: Handles, *, owner: str) -> ReadStates:
        """Copies the states of sessions of one model version; the sessions go on.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, STORE_UNAVAILABLE.
        """
        self._limits.check_handles(handles)
        number = self._table.owner_number(owner)
        handles = await self._awake(handles, number)
        model = self.version_of(handles, number)
        pairs = () if model is None else model.arena.pairs
        if model is not None:
            self._check_states_size(len(handles) * (model.state_bytes + _ROW_BYTES))
        state = [np.empty((len(handles), *pair.shape), pair.initial_state().dtype) for pair in pairs]
        positions = np.empty(len(handles), np.uint64)

        def copy_out(row: int, slot: int) -> None:
            arena = self._directory.model_of(slot).arena
            for whole, own in zip(state, arena.view_at(self._table.arena_index(slot)), strict=True):
                whole[row] = own[0]
            positions[row] = self._table.position[slot]

        failures = await self._turns.run_valid(handles, copy_out, owner=number)
        good = np.ones(len(handles), np.bool_)
        good[[failure.row for failure in failures]] = False
        named = {pair.input: whole[good] for pair, whole in zip(pairs, state, strict=True)}
        return ReadStates(named, positions[good], failures)

    def _check_states_size(self, size: int) -> None:
        """Raises ServiceError (BYTES_LIMIT) where states together are longer than a message."""
        limit = self._limits.settings.message_bytes
        if size > limit:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"the states take {size} bytes, in one message; expected at most {limit}: ask for fewer at "
                "once",
            )

    async def write(
        self,
        handles: Handles,
        positions: NDArray[np.uint64],
        named: Mapping[str, Array],
        new_positions: NDArray[np.uint64],
        *,
        owner: str,
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Gives sessions of one model version states; what a request does not name stays as it is.

        A request that is repeated changes nothing, as long as no other has changed the session.

        Args:
            handles: uint64 [rows].
            positions: Positions that the sessions must be at, uint64 [rows].
            named: As of GivenStates.
            new_positions: Positions of the sessions afterwards, uint64 [rows]; empty: as they were.
            owner: Name of the caller's owner.

        Raises:
            ServiceError: BAD_TENSOR, BAD_REQUEST, BYTES_LIMIT, DRAINING, STORE_UNAVAILABLE.
        """
        self.refuse_changes()
        self._limits.check_handles(handles)
        rows = len(handles)
        self._limits.check_columns(rows, len(positions))
        if not named:
            raise ServiceError(Reason.BAD_TENSOR, "the request names no state; expected at least one")
        after = positions
        if len(new_positions):
            after = given_positions(new_positions, "new_positions", rows=rows, with_state=True)
        number = self._table.owner_number(owner)
        handles = await self._awake(handles, number)
        model = self.version_of(handles, number)
        if model is None:
            return [], await self._turns.run_valid(handles, lambda *_: None, owner=number)
        given = GivenStates(model.arena.pairs, model.arena.initial_state, named, rows=rows)
        digests = _digests(given, positions, after)
        written: dict[int, OpenedSession] = {}
        refused: list[RowFailure] = []

        def put(row: int, slot: int) -> None:
            if row in given.failures:
                raise ServiceError(Reason.BAD_TENSOR, given.failures[row])
            if not self._is_repeated(slot, int(after[row]), int(digests[row])):
                held = int(self._table.position[slot])
                if held != int(positions[row]):
                    message = f"expected the position held, {held}; got {positions[row]}"
                    refused.append(RowFailure(row, Reason.POSITION_MISMATCH, message, position=held))
                    return
                state = model.arena.gather(np.array([self._table.arena_index(slot)]))
                given.write_row(row, state)
                model.kept.begin_anew(slot, state, position=int(after[row]), digest=int(digests[row]))
            written[row] = self._directory.describe(slot, created=False)

        failures = await self._turns.run_valid(handles, put, owner=number)
        moved = await self._settle(written)
        return in_order(written), sorted([*failures, *refused, *moved.values()], key=row_of)

    def _is_repeated(self, slot: int, position: int, digest: int) -> bool:
        """Whether a session has its state by the very request of a digest, and was not used since."""
        return (
            int(self._table.previous_position[slot]) == NO_POSITION
            and int(self._table.position[slot]) == position
            and int(self._table.digest[slot]) == digest
        )


def _digests(given: GivenStates, before: NDArray[np.uint64], after: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns digests of what rows are given, uint64 [rows]."""
    names = hashlib.blake2b("\0".join(given.names).encode(), digest_size=8).digest()
    # A state for all rows is digested once: spread over the rows of a request it could fill the memory.
    values = [digest_rows([column], per_step=[False], steps=None) for column in given.columns]
    whole = np.empty((given.rows, 4 + len(values)), np.uint64)
    whole[:, 0], whole[:, 1] = _WRITE, int.from_bytes(names, "little")
    for at, column in enumerate([before, after, *values], start=2):
        whole[:, at] = column
    return digest_rows([whole], per_step=[False], steps=None)
