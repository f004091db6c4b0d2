"""Holds what is known behind the first chunks of a sequence: one node of a prefix tree.

A node never changes what it holds. Only the budget writes its worth.
"""

from collections.abc import Sequence

from statewise.service.base import Array

NODE_BYTES = 640
"""Bytes of a node's objects, those of its place in the tree included, without its arrays' elements."""
ARRAY_BYTES = 128
"""Bytes of an array without its elements."""


class PrefixNode:
    """The state behind some chunks, and what the last of them put out.

    Args:
        key: Digest of everything up to the node's end.
        depth: Chunks up to its end, at least 1.
        steps: Time steps up to its end.
        state: In the spec's order, [...] each.
        last: Outputs that are not per step, in the spec's order, [...] each.
        outputs: Outputs of the last chunk that are per step, [chunk, ...] each; None: they are not kept.
    """

    __slots__ = (
        "arrival",
        "depth",
        "kept",
        "key",
        "last",
        "outputs",
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
        state: Sequence[Array],
        last: Sequence[Array],
        outputs: Sequence[Array] | None,
    ) -> None:
        self.key = key
        self.depth = depth
        self.steps = steps
        self.state = state
        self.last = last
        self.outputs = outputs
        arrays = [*state, *last, *(outputs or ())]
        self.size_bytes = NODE_BYTES + sum(ARRAY_BYTES + array.nbytes for array in arrays)
        self.kept = False
        """Whether the tree has it."""
        self.saved_steps = 0
        """Time steps that were not computed because the node was there."""
        self.worth = 0.0
        """How useful it is; the least useful node goes first."""
        self.arrival = 0
        """Number of the insertion or use by which it got its worth."""
