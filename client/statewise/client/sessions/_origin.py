"""Says what a session's inputs began from, so that it can be opened there again if its server lost it."""

from dataclasses import dataclass

from statewise.client.values import GivenState, ModelInfo
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64, unpack_uint64


@dataclass(frozen=True, slots=True)
class Origin:
    """A state that this client can open a session in.

    Attributes:
        position: its position, in time steps.
        opening: the request that opens a session there: it has a condition, or a state; None: the model's
            initial state.
    """

    position: int = 0
    opening: sequence_pb2.OpenSessionsRequest | None = None

    @classmethod
    def of_request(cls, opening: sequence_pb2.OpenSessionsRequest) -> "Origin":
        """Returns where the one session of a request begins."""
        position = int(unpack_uint64(opening.positions)[0]) if opening.positions else 0
        return cls(position, opening)

    @classmethod
    def of_state(cls, model: ModelInfo, state: GivenState, position: int) -> "Origin":
        """Returns an origin in a whole state, [1, ...] by name."""
        opening = sequence_pb2.OpenSessionsRequest(
            model=model.name, version=model.version, positions=pack_uint64([position])
        )
        state.fill(opening.state, 0, 1)
        return cls(position, opening)


INITIAL = Origin()
"""The model's initial state."""
