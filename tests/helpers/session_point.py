"""Says what a session is between two requests, and where each request leads, by the oracle alone."""

from dataclasses import dataclass, replace

import numpy as np
from tests.helpers.arrays import Array
from tests.helpers.models.small import HIDDEN, SmallModel

Kept = tuple[int, Array | None]
"""A position, and what the oracle continues from there; None: the initial state."""
Write = tuple[int, int, bytes]
"""A request that writes a state: the positions before and after, and the bits of the state."""


def bits(state: Array | None) -> bytes:
    """Returns the bits of a state of the small models; None: of the initial one."""
    return (np.zeros(2 * HIDDEN, np.float32) if state is None else state).tobytes()


@dataclass(frozen=True, eq=False)
class Point:
    """A session between two requests.

    Attributes:
        position: Time steps.
        state: What the oracle continues from; None: the initial state.
        before: The same before the last request.
        last: Start and input of the last request; None: none that could be sent again.
        unsure: Whether a rewind, whose answer was lost, may have led here.
        keep: How many requests can be taken back.
        kept: What can be gone back to beside `before`, the oldest first; None: it is not known.
        write: The request that wrote the state, as long as nothing has come after it.
    """

    position: int = 0
    state: Array | None = None
    before: Array | None = None
    last: tuple[int, Array] | None = None
    unsure: bool = False
    keep: int = 1
    kept: tuple[Kept, ...] | None = ()
    write: Write | None = None

    def stepped(self, oracle: SmallModel, x: Array) -> tuple[bytes, "Point"]:
        """The outputs of a step from here, and where it leads."""
        y, state = oracle.run(x, self.state)
        kept = self.kept
        if self.unsure:
            kept = None
        elif kept is not None and self.last is not None:
            kept = (*kept, (self.last[0], self.before))[-(self.keep - 1) :] if self.keep > 1 else ()
        after = Point(self.position + len(x), state, self.state, (self.position, x), keep=self.keep)
        return y.tobytes(), replace(after, kept=kept)

    def repeated(self, oracle: SmallModel) -> bytes:
        """The outputs of the last request, sent again."""
        assert self.last is not None
        return oracle.run(self.last[1], self.before)[0].tobytes()

    @property
    def present(self) -> Kept:
        """The position and the state."""
        return self.position, self.state

    @property
    def positions(self) -> list[int] | None:
        """The positions that can be gone back to, the earliest first; None: it is not known."""
        if self.kept is None or self.unsure:
            return None
        return [position for position, _ in self.kept] + ([] if self.last is None else [self.last[0]])

    def rewound(self, requests: int = 1) -> "Point":
        """Where it leads to take back so many requests, as far as they are kept."""
        if self.last is None and not self.kept:
            return self
        older = list(self.kept or ())
        gone = [*older, *([] if self.last is None else [(self.last[0], self.before)])]
        at = max(len(gone) - requests, 0)
        if at == len(gone):
            return self
        position, state = gone[at]
        return Point(position, state, keep=self.keep, kept=None if self.kept is None else tuple(gone[:at]))

    def rewound_to(self, position: int) -> "Point | None":
        """Where it leads to go to a position; None: it cannot be gone to."""
        assert self.positions is not None
        known = [*self.positions, self.position]
        if position not in known:
            return None
        return self.rewound(len(known) - 1 - known.index(position))

    def gone_to(self, kept: Kept) -> "Point":
        """Where it leads to go to a named checkpoint."""
        if self.positions == [] and (self.position, bits(self.state)) == (kept[0], bits(kept[1])):
            return self
        return Point(*kept, keep=self.keep)

    def written(self, position: int, state: Array) -> "Point":
        """Where it leads to write a state."""
        return Point(position, state, keep=self.keep, write=(self.position, position, bits(state)))

    def same_as(self, other: "Point") -> bool:
        """Whether nothing tells the two apart, but for states."""
        lasts = [None if one.last is None else one.last[0] for one in (self, other)]
        return lasts[0] == lasts[1] and (self.positions, self.write) == (other.positions, other.write)
