"""Reads, writes and gives the states of sessions by the contract alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.helpers.arrays import Array
from tests.helpers.caller import Caller

from statewise.v1 import sequence_pb2 as pb
from statewise.wire import from_tensor, pack_uint64, to_tensor, unpack_uint64


@dataclass(frozen=True)
class StatesRead:
    """States of sessions by name, [rows, ...] each, and their positions."""

    state: Mapping[str, Array]
    positions: Sequence[int]

    def of_rows(self, rows: slice) -> "StatesRead":
        """The same of some rows."""
        return StatesRead({name: array[rows] for name, array in self.state.items()}, self.positions[rows])

    def bits(self) -> list[bytes]:
        """The bits of each state, in the order of the names."""
        return [self.state[name].tobytes() for name in sorted(self.state)]


def tensors(state: Mapping[str, Array]) -> dict[str, Any]:
    """States as a request has them."""
    return {name: to_tensor(array) for name, array in state.items()}


async def read_states(caller: Caller, *handles: int) -> StatesRead:
    """Reads the states of sessions that exist."""
    reply = await caller.ask(read_states=pb.ReadStatesRequest(handles=pack_uint64(handles)))
    assert isinstance(reply, pb.ReadStatesResponse), reply
    assert not reply.errors
    state = {name: from_tensor(tensor) for name, tensor in reply.state.items()}
    return StatesRead(state, unpack_uint64(reply.positions).tolist())


async def open_in(caller: Caller, model: str, read: StatesRead, *ids: str) -> list[int]:
    """Opens sessions in states, at their positions; gives their handles."""
    request = pb.OpenSessionsRequest(
        model=model, session_ids=ids, state=tensors(read.state), positions=pack_uint64(read.positions)
    )
    opened = await caller.ask(open=request)
    assert not opened.errors, opened.errors
    assert [session.position for session in opened.sessions] == list(read.positions)
    return [session.handle for session in opened.sessions]


def write_request(
    sessions: Sequence[tuple[int, int]], state: Mapping[str, Array], *, new_positions: Sequence[int] = ()
) -> pb.WriteStatesRequest:
    """A request that gives states to sessions given as (handle, position)."""
    return pb.WriteStatesRequest(
        handles=pack_uint64([handle for handle, _ in sessions]),
        positions=pack_uint64([position for _, position in sessions]),
        state=tensors(state),
        new_positions=pack_uint64(new_positions),
    )
