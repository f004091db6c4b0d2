"""Uses sessions so that each output depends on seed and position alone, however often they are resumed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client import Client

MOST_STEPS = 100
ROWS = 5
CONDITION = "rst"


class Kind:
    """One way to use sessions.

    Args:
        seed: Decides inputs and sizes.
        requests: Outputs at most.
    """

    undoes = False

    def __init__(self, seed: int, requests: int) -> None:
        self.seed = seed
        self.requests = requests

    def open(self, client: Client, name: str) -> Any:
        """Opens the sessions; a former program may have opened them and not have seen it."""
        return client.session("steps", id=name)

    def resume(self, client: Client, name: str) -> Any:
        """Takes the sessions over from a former program."""
        return client.resume(name)

    def positions(self, sessions: Any) -> list[int]:
        """Where the sessions stand."""
        return [sessions.position]

    def moves(self, request: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Time steps by which a request moves each session."""
        return np.ones(1, np.int64)

    def act(self, sessions: Any, request: int) -> bytes:
        """Makes a request; returns its outputs."""
        position = sessions.position
        (steps,) = self.moves(request, np.array([position]))
        x = self._inputs(0)[position : position + steps]
        output: NDArray[np.float32] = sessions.step(x)
        return output.tobytes()

    def outputs(self, client: Client, row: int, steps: int) -> list[bytes]:
        """Outputs of a session that nothing disturbs, by the number of steps that it has made."""
        return [output.tobytes() for output in client.predict("steps", self._inputs(row)[:steps])]

    def _inputs(self, row: int) -> NDArray[np.float32]:
        random = np.random.default_rng([self.seed, row])
        return random.standard_normal((self.requests * MOST_STEPS, 3)).astype(np.float32)

    def _size(self, request: int, most: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, request]).integers(1, most + 1, 1)


class SingleSteps(Kind):
    """A session that takes one time step after another."""


class Chunks(Kind):
    """A session that takes up to a hundred time steps at once, and undoes some requests."""

    undoes = True

    def moves(self, request: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Kind`."""
        return self._size(request, MOST_STEPS)


class Group(Kind):
    """Some sessions, all of them or a part stepped together."""

    def open(self, client: Client, name: str) -> Any:
        """See `Kind`."""
        return client.sessions("steps", ids=[f"{name}-{row}" for row in range(ROWS)])

    resume = open

    def positions(self, sessions: Any) -> list[int]:
        """See `Kind`."""
        return list(sessions.positions)

    def moves(self, request: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Kind`."""
        drawn = np.random.default_rng([self.seed, request]).integers(0, 2, ROWS)
        return drawn if drawn.any() else np.ones(ROWS, np.int64)

    def act(self, sessions: Any, request: int) -> bytes:
        """See `Kind`."""
        positions = sessions.positions
        index = np.flatnonzero(self.moves(request, positions))
        output: NDArray[np.float32] = sessions.step(
            np.stack([self._inputs(row)[positions[row]] for row in index.tolist()]), index=index
        )
        return output.tobytes()


class Generation(Kind):
    """A session that takes one token, and generates a few at a time from then on."""

    def open(self, client: Client, name: str) -> Any:
        """See `Kind`."""
        return client.session("chatter", id=name)

    def moves(self, request: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Kind`."""
        return self._size(request, 8) if positions[0] else np.ones(1, np.int64)

    def act(self, sessions: Any, request: int) -> bytes:
        """See `Kind`."""
        position = sessions.position
        (steps,) = self.moves(request, np.array([position]))
        return b"".join(self._take(sessions, int(steps), begun=bool(position)))

    def outputs(self, client: Client, row: int, steps: int) -> list[bytes]:
        """See `Kind`."""
        with client.session("chatter") as session:
            return [*self._take(session, 1, begun=False), *self._take(session, steps - 1, begun=True)]

    def _take(self, session: Any, steps: int, *, begun: bool) -> list[bytes]:
        if not begun:
            return [session.step(np.int64(7)).tobytes()]
        said = session.generate(steps=steps, seed=self.seed, text=False)
        return [np.int64(token).tobytes() for token in said]


class EncoderDecoder(Kind):
    """A session that begins with what an encoder leaves."""

    def open(self, client: Client, name: str) -> Any:
        """See `Kind`."""
        return client.session("speech", id=name, condition=CONDITION)

    def act(self, sessions: Any, request: int) -> bytes:
        """See `Kind`."""
        output: NDArray[np.float32] = sessions.step(self._tokens()[sessions.position])
        return output.tobytes()

    def outputs(self, client: Client, row: int, steps: int) -> list[bytes]:
        """See `Kind`."""
        with client.session("speech", condition=CONDITION) as session:
            begin = session.position
            return [output.tobytes() for output in session.step(self._tokens()[begin : begin + steps])]

    def _tokens(self) -> NDArray[np.int64]:
        return np.random.default_rng(self.seed).integers(1, 7, 2 * self.requests)


KINDS: tuple[type[Kind], ...] = (SingleSteps, Chunks, Group, Generation, EncoderDecoder)
