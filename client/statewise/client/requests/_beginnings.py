"""Reads what sessions begin from: a condition or a given state, one for all sessions or one for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.client.requests._conditions import Conditions
from statewise.client.requests._positions import check_position, read_positions
from statewise.client.values import (
    GivenState,
    Limits,
    ModelInfo,
    RequestLimits,
    check_keep,
    durability_number,
    given_state,
    wrong,
)
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64

# The id of a session and what the contract adds to it.
_SESSION_BYTES = 160


class Beginnings(Protocol):
    """What sessions in a fixed order begin from, other than the model's initial state."""

    def bounds(self, count: int, limits: Limits, most: int) -> list[tuple[int, int]]:
        """Splits the sessions: first and last (exclusive) of those that one request opens, at most `most`."""
        ...

    def request(self, session_ids: Sequence[str], first: int = 0) -> sequence_pb2.OpenSessionsRequest:
        """Returns the request that opens these sessions, the first of which is session number `first`."""
        ...


@dataclass(frozen=True, slots=True)
class GivenStates:
    """The states that sessions in a fixed order begin in.

    Attributes:
        model: the version.
        state: one for all, or one each.
        positions: of these states, uint64 [1] or [sessions].
    """

    model: ModelInfo
    state: GivenState
    positions: NDArray[np.uint64]

    def bounds(self, count: int, limits: Limits, most: int) -> list[tuple[int, int]]:
        """See `Beginnings`."""
        room_bytes = RequestLimits.for_predict(limits, self.model).bytes - self.state.shared_bytes
        rows = max(1, min(most, room_bytes // (self.state.row_bytes + _SESSION_BYTES)))
        return [(begin, min(begin + rows, count)) for begin in range(0, count, rows)]

    def request(self, session_ids: Sequence[str], first: int = 0) -> sequence_pb2.OpenSessionsRequest:
        """See `Beginnings`."""
        request = sequence_pb2.OpenSessionsRequest(
            model=self.model.name, version=self.model.version, session_ids=session_ids
        )
        end = first + len(session_ids)
        self.state.fill(request.state, first, end)
        positions = np.broadcast_to(self.positions, end) if len(self.positions) == 1 else self.positions
        request.positions = pack_uint64(positions[first:end])
        return request


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a caller wants sessions to be opened.

    Attributes:
        condition: an encoder's input, or None.
        state: a dict of arrays, or None.
        position: of the state: a number, or one for each session.
        keep: True: the sessions stay open; a number: of the last requests of each that can be taken back.
        durability: when replies leave.
    """

    condition: object = None
    state: object = None
    position: object = 0
    keep: object = False
    durability: str | None = None

    def __post_init__(self) -> None:
        check_keep(self.keep)
        durability_number(self.durability)

    @property
    def stays_open(self) -> bool:
        """Whether the sessions are left open at the end of a `with`."""
        return isinstance(self.keep, bool | np.bool_) and bool(self.keep)

    @property
    def kept_requests(self) -> int:
        """The number of last requests that can be taken back; 0: as the server does by itself."""
        return 0 if isinstance(self.keep, bool | np.bool_) else int(self.keep)  # type: ignore[call-overload]

    @property
    def needs_new_server(self) -> bool:
        """Whether an older server would do something else than is asked."""
        return self.state is not None or self.kept_requests > 1

    def check_position(self, count: int | None) -> None:
        """Raises InvalidInput for anything but a position of a given state; `count`: see `beginnings`."""
        check_position(self.position, count, given=self.state is not None)

    def beginnings(self, model: ModelInfo, count: int | None) -> Beginnings | None:
        """Reads what the sessions begin from; None: the model's initial state.

        Args:
            model: the version.
            count: number of sessions; None: a single one.

        Raises:
            InvalidInput: the model cannot take it.
        """
        if self.state is None:
            if self.condition is None:
                return None
            return Conditions.of(model, self.condition, count=1 if count is None else count)
        if self.condition is not None:
            raise wrong(
                "state", "None with condition=, from which the encoder computes the state", self.state
            )
        state = given_state(model, self.state, count=count)
        return GivenStates(model, state, read_positions(self.position, count))

    def complete(self, request: sequence_pb2.OpenSessionsRequest) -> None:
        """Puts into a request what does not depend on the model."""
        request.durability = sequence_pb2.Durability.ValueType(durability_number(self.durability))
        request.keep = self.kept_requests
