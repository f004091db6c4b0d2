"""Keeps the nodes of one graph: a radix tree of chunks, each node under the digest of its whole path.

A node is found without those before it, so any of them may go. Where outputs are per step, whoever skips a
chunk needs its outputs, and the nodes before one are then never worth less than that one.
"""

import heapq
import math
from collections.abc import Sequence

from statewise.service.scheduling.prefixes._chunk_claims import ChunkClaims
from statewise.service.scheduling.prefixes._prefix_budget import PrefixBudget, Usage
from statewise.service.scheduling.prefixes._prefix_node import ARRAY_BYTES, NODE_BYTES, PrefixNode
from statewise.service.scheduling.prefixes._row_keys import RowKeys
from statewise.wire import DTYPES, ModelSpec

_Entry = tuple[float, int, int, int, PrefixNode]


class PrefixTree:
    """What is known of the sequences of one graph.

    Args:
        budget: Of the server.
        spec: Of the graph.
        digest: Of the model version.
        chunk_steps: Time steps of a chunk, which is also the shortest row that is looked up.
        by_chunk: Whether rows are known chunk by chunk, or only whole, as those of an encoder that reads
            backwards, too.
        shared: Whether owners share what is known.
    """

    def __init__(
        self,
        budget: PrefixBudget,
        spec: ModelSpec,
        *,
        digest: str,
        chunk_steps: int,
        by_chunk: bool,
        shared: bool,
    ) -> None:
        self.keys = RowKeys(
            spec.inputs, digest=digest, chunk_steps=chunk_steps if by_chunk else None, shared=shared
        )
        self.chunk_steps = chunk_steps
        self.by_chunk = by_chunk
        self.claims = ChunkClaims()
        self.usage = Usage(budget)
        self._budget = budget
        self._most_chunks = budget.chunks_of_a_row(_node_bytes(spec, chunk_steps if by_chunk else 0))
        self._nodes: dict[bytes, PrefixNode] = {}
        self._least: list[_Entry] = []
        self._number = 0
        budget.enter(self)

    def __len__(self) -> int:
        return len(self._nodes)

    def chunks_of(self, steps: int) -> int:
        """Returns how many chunks of a row of so many time steps are looked up and kept."""
        if steps < self.chunk_steps:
            return 0
        return min(steps // self.chunk_steps if self.by_chunk else 1, self._most_chunks)

    def find(self, keys: Sequence[bytes], *, outputs: bool) -> list[PrefixNode]:
        """Finds how much of a row is known.

        Args:
            keys: Of its chunks.
            outputs: Whether the outputs of the chunks are needed.

        Returns:
            The nodes of the longest known beginning; without `outputs` only the last of them.
        """
        found: list[PrefixNode] = []
        if outputs:
            for key in keys:
                node = self._nodes.get(key)
                if node is None or node.outputs is None:
                    break
                found.append(node)
            return found
        for key in reversed(keys):
            node = self._nodes.get(key)
            if node is not None:
                return [node]
        return found

    def is_known(self, key: bytes, *, outputs: bool) -> bool:
        """Returns whether the chunk's node is kept, with outputs if they are needed."""
        node = self._nodes.get(key)
        return node is not None and not (outputs and node.outputs is None)

    def use(self, found: Sequence[PrefixNode]) -> int:
        """Notes that a row starts behind these nodes; returns the time steps that this saves."""
        if not found:
            return 0
        steps = found[-1].steps
        self._budget.next_arrival()
        for node in found:
            self._budget.renew(node, steps)
        return steps

    def keep(self, node: PrefixNode) -> None:
        """Takes a new node if there is room or room can be made.

        It counts as if its chunk had been saved once. One with the same key stays, unless it lacks outputs.
        """
        earlier = self._nodes.get(node.key)
        if earlier is not None:
            if earlier.outputs is not None or node.outputs is None:
                return
            self._remove(earlier)
            node.saved_steps = earlier.saved_steps
        if not self._budget.make_room(node.size_bytes):
            return
        if earlier is None:
            self._budget.next_arrival()
        first = self.chunk_steps if self.by_chunk else node.steps
        self._budget.renew(node, 0 if node.saved_steps else first)
        node.kept = True
        self._nodes[node.key] = node
        self.usage.add(1, node.size_bytes)
        self._number += 1
        heapq.heappush(self._least, self._entry(node, self._number))

    def least_worth(self, looks: int) -> tuple[float | None, int]:
        """Returns the least worth of a node, None if unknown, and how many others were looked at for it."""
        looked = 0
        while self._least and looked < looks:
            worth, _, _, number, node = self._least[0]
            if node.kept and worth == node.worth:
                return worth, looked
            looked += 1
            if node.kept:
                heapq.heapreplace(self._least, self._entry(node, number))
            else:
                heapq.heappop(self._least)
        return None, looked

    def drop_least(self) -> None:
        """Lets the node go that `least_worth` told of."""
        self._remove(heapq.heappop(self._least)[-1])

    def _remove(self, node: PrefixNode) -> None:
        node.kept = False
        del self._nodes[node.key]
        self.usage.add(-1, -node.size_bytes)

    def _entry(self, node: PrefixNode, number: int) -> _Entry:
        # Of nodes that are worth the same, those that came first go first. Of one row, the last ones go first
        # where others need their outputs, else the first ones: one that starts behind them needs no other.
        order = node.depth if node.outputs is None else -node.depth
        return node.worth, node.arrival, order, number, node


def _node_bytes(spec: ModelSpec, chunk_steps: int) -> int:
    """Returns the bytes of a node with outputs."""
    shapes = [(*([chunk_steps] if one.per_step else []), *one.shape) for one in spec.outputs]
    shapes += [pair.shape for pair in spec.state]
    dtypes = [DTYPES[one.dtype] for one in spec.outputs] + [DTYPES[pair.dtype] for pair in spec.state]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True)]
    return NODE_BYTES + sum(ARRAY_BYTES + size for size in sizes)
