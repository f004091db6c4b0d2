"""Holds what is known behind the first chunks of a sequence: one node of a prefix tree.

A node never changes what it holds. Only the budget writes its worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from statewise.service.base import Array
from statewise.service.scheduling.prefixes._owned_arrays import owned
from statewise.service.scheduling.prefixes._row_hash import RowHash

NODE_BYTES = 640
"""Bytes of a node's objects, those of its place in the tree included, without its arrays' elements."""
ARRAY_BYTES = 128
"""Bytes of an array without its elements."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What a row has come to at the end of a chunk.

    Attributes:
        after: Chunks up to the place from which `outputs` go on.
        depth: Chunks up to the end.
        steps: Time steps up to the end.
        state: In the spec's order, [...] each.
        last: Outputs that are not per step, in the spec's order, [...] each.
        outputs: Outputs that are per step, of the chunks from `after` on; None: they are not wanted.
    """

    after: int
    depth: int
    steps: int
    state: Sequence[Array]
    last: Sequence[Array]
    outputs: Sequence[Array] | None

    def own(self) -> "Reached":
        """Returns the same, which holds nothing else in memory."""
        outputs = None if self.outputs is None else [owned(array) for array in self.outputs]
        return Reached(self.after, self.depth, self.steps, self.state, self.last, outputs)

    @property
    def size_bytes(self) -> int:
        """Bytes of the arrays."""
        arrays = [*self.state, *self.last, *(self.outputs or ())]
        return sum(ARRAY_BYTES + array.nbytes for array in arrays)


@dataclass(frozen=True, slots=True)
class UnhashedRow:
    """A row of which only the first chunk has a key yet: nobody has asked for it.

    Attributes:
        hash: Computes the keys.
        chunks: How many it has.
        reached: What the row came to.
    """

    hash: RowHash
    chunks: int
    reached: Sequence[Reached]


class PrefixNode:
    """What is known at the end of a chunk.

    Args:
        key: Digest of everything up to the node's end.
        depth: Chunks up to its end, at least 1.
        steps: Time steps up to its end.
        state: In the spec's order, [...] each; None: it is not kept, and no row starts here.
        last: Outputs that are not per step, in the spec's order, [...] each; None without a state.
        outputs: Outputs of the last chunk that are per step, [chunk, ...] each; None: they are not kept.
        row: What is to be known once somebody asks; None: nothing.
        row_bytes: Its bytes.
    """

    __slots__ = (
        "arrival",
        "depth",
        "kept",
        "key",
        "last",
        "outputs",
        "row",
        "saved_steps",
        "size_bytes",
        "state",
        "steps",
        "worth",
    )

    def __init__(
        self,
        key: bytes,
        depth: int,
        steps: int,
        state: Sequence[Array] | None,
        last: Sequence[Array] | None,
        outputs: Sequence[Array] | None,
        *,
        row: UnhashedRow | None = None,
        row_bytes: int = 0,
    ) -> None:
        self.key = key
        self.depth = depth
        self.steps = steps
        self.state = state
        self.last = last
        self.outputs = outputs
        self.row = row
        arrays = [*(state or ()), *(last or ()), *(outputs or ())]
        self.size_bytes = NODE_BYTES + row_bytes + sum(ARRAY_BYTES + array.nbytes for array in arrays)
        self.kept = False
        """Whether the tree has it."""
        self.saved_steps = 0
        """Time steps that were not computed because the node was there."""
        self.worth = 0.0
        """How useful it is; the least useful node goes first."""
        self.arrival = 0
        """Number of the insertion or use by which it got its worth."""
