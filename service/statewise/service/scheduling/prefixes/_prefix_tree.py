"""Keeps the nodes of one graph: a radix tree of chunks, each node under the digest of its whole path.

A node is found without those before it, so any of them may go. Where outputs are per step, whoever skips a
chunk needs its outputs, and the nodes before one are then never worth less than that one.
"""

import heapq
import math
from collections.abc import Sequence

from statewise.service.base import Array
from statewise.service.scheduling.prefixes._chunk_claims import ChunkClaims
from statewise.service.scheduling.prefixes._prefix_budget import PrefixBudget, Usage
from statewise.service.scheduling.prefixes._prefix_node import (
    ARRAY_BYTES,
    NODE_BYTES,
    PrefixNode,
    Reached,
    UnhashedRow,
)
from statewise.service.scheduling.prefixes._row_hash import RowHash
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
        self._inputs = spec.inputs
        self._digest = digest
        self._shared = shared
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

    def row_hash(self, inputs: Sequence[Array], state: Sequence[Array], *, owner: int, steps: int) -> RowHash:
        """Returns what computes a row's keys.

        Args:
            inputs: The row's, in the spec's order: per-step [steps, ...], others [...].
            state: That the row starts from, in the spec's order, [...] each.
            owner: Number of its owner.
            steps: Its time steps.
        """
        return RowHash(
            self._inputs,
            self._digest,
            inputs,
            state,
            owner=0 if self._shared else owner,
            steps=steps,
            chunk_steps=self.chunk_steps if self.by_chunk else None,
        )

    def has_begun(self, key: bytes) -> bool:
        """Returns whether anything is known of rows whose first chunk has that key."""
        return key in self._nodes

    def hash_rows(self, key: bytes) -> None:
        """Makes known what rows came to that only the key of their first chunk was computed of."""
        node = self._nodes.get(key)
        if node is not None and node.row is not None:
            self._remove(node)
            keys = node.row.hash.keys(node.row.chunks)
            for reached in node.row.reached:
                self.keep_chunks(keys, reached)

    def find(self, keys: Sequence[bytes], *, outputs: bool) -> tuple[list[PrefixNode], int]:
        """Finds how much of a row is known.

        Args:
            keys: Of its chunks.
            outputs: Whether the outputs of the chunks are needed.

        Returns:
            The nodes of the longest beginning that a row can start behind, without `outputs` only the last of
            them; and how many chunks of the row are known, with or without a state at their end.
        """
        found: list[PrefixNode] = []
        known = 0
        if outputs:
            path: list[PrefixNode] = []
            for key in keys:
                node = self._nodes.get(key)
                if node is None or node.outputs is None:
                    break
                path.append(node)
                if node.state is not None:
                    found = path.copy()
            return found, len(path)
        for depth in range(len(keys), 0, -1):
            node = self._nodes.get(keys[depth - 1])
            if node is None:
                continue
            known = known or depth
            if node.state is not None:
                return [node], known
        return found, known

    def use(self, found: Sequence[PrefixNode]) -> int:
        """Notes that a row starts behind these nodes; returns the time steps that this saves."""
        if not found:
            return 0
        steps = found[-1].steps
        self._budget.next_arrival()
        for node in found:
            self._budget.renew(node, steps)
        return steps

    def keep_chunks(self, keys: Sequence[bytes], reached: Reached) -> None:
        """Takes what a row came to: outputs of the chunks on the way if there are any, and the state."""
        size = self.chunk_steps
        for depth in range(reached.after + 1, reached.depth + 1):
            begin = (depth - 1 - reached.after) * size
            outputs = None
            if reached.outputs is not None:
                outputs = [array[begin : begin + size].copy() for array in reached.outputs]
            ends = depth == reached.depth
            self._keep(
                PrefixNode(
                    keys[depth - 1],
                    depth,
                    reached.steps if ends else depth * size,
                    reached.state if ends else None,
                    reached.last if ends else None,
                    outputs,
                )
            )

    def keep_unhashed(self, row: RowHash, chunks: int, reached: Sequence[Reached]) -> None:
        """Takes what a row came to that nobody has asked for: its keys are computed if somebody does."""
        last = reached[-1]
        own = [one.own() for one in reached]
        size = row.own(last.steps) + sum(one.size_bytes for one in own)
        unhashed = UnhashedRow(row, chunks, own)
        self._keep(PrefixNode(row.keys(1)[0], 1, last.steps, None, None, None, row=unhashed, row_bytes=size))

    def _keep(self, node: PrefixNode) -> None:
        """Takes a new node if there is room or room can be made, with what is known of the same chunk.

        It counts as if its chunk had been saved once.
        """
        earlier = self._nodes.get(node.key)
        if earlier is not None:
            if node.row is not None or not _adds_to(node, earlier):
                return
            self._remove(earlier)
            state, last = (earlier.state, earlier.last) if node.state is None else (node.state, node.last)
            node = PrefixNode(node.key, node.depth, node.steps, state, last, node.outputs or earlier.outputs)
            node.saved_steps = earlier.saved_steps
        if not self._budget.make_room(node.size_bytes):
            return
        if earlier is None:
            self._budget.next_arrival()
        first = self.chunk_steps if self.by_chunk and node.row is None else node.steps
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


def _adds_to(node: PrefixNode, earlier: PrefixNode) -> bool:
    """Returns whether a node holds what an earlier one of the same chunk lacks."""
    lacks_state = node.state is not None and earlier.state is None
    return lacks_state or (node.outputs is not None and earlier.outputs is None)


def _node_bytes(spec: ModelSpec, chunk_steps: int) -> int:
    """Returns the bytes of a node with outputs."""
    shapes = [(*([chunk_steps] if one.per_step else []), *one.shape) for one in spec.outputs]
    shapes += [pair.shape for pair in spec.state]
    dtypes = [DTYPES[one.dtype] for one in spec.outputs] + [DTYPES[pair.dtype] for pair in spec.state]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True)]
    return NODE_BYTES + sum(ARRAY_BYTES + size for size in sizes)
