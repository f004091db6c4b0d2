"""Bounds the bytes of all prefix trees of a server, and lets the least useful nodes go first.

Useful is what saved many steps a byte. Worth ages: with every node that goes, all others lose as much as that
node was worth (GreedyDual-Size-Frequency: Cherkasova 1998). Making room looks at a bounded number of nodes.
"""

import weakref
from typing import Protocol

from statewise.service.scheduling.prefixes._prefix_node import PrefixNode

_LOOKS = 64
"""Nodes that making room looks at, at most. Whoever finds no room with so many keeps nothing this time."""
_SHARE = 4
"""One row keeps at most so small a share of the budget."""


class BudgetedTree(Protocol):
    """A tree whose nodes count."""

    usage: "Usage"

    def least_worth(self, looks: int) -> tuple[float | None, int]:
        """Returns the least worth of a node, None if unknown, and how many others were looked at for it."""

    def drop_least(self) -> None:
        """Lets the node go that `least_worth` told of."""


class PrefixBudget:
    """Bytes that trees may take.

    Args:
        limit_bytes: Most bytes of nodes.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        """Bytes of the nodes that are kept."""
        self.nodes = 0
        """Nodes that are kept."""
        self.evictions = 0
        """Nodes that went to make room for others."""
        self._trees: weakref.WeakSet[BudgetedTree] = weakref.WeakSet()
        self._age = 0.0
        self._arrivals = 0

    def enter(self, tree: BudgetedTree) -> None:
        """Takes a tree. Its nodes' bytes are free again when nobody refers to the tree any more."""
        self._trees.add(tree)
        weakref.finalize(tree, self._leave, tree.usage).atexit = False

    def chunks_of_a_row(self, node_bytes: int) -> int:
        """Returns how many nodes of that size one row may keep."""
        return self.limit_bytes // (_SHARE * node_bytes)

    def renew(self, node: PrefixNode, saved_steps: int) -> None:
        """Gives a node its worth, when it is new and whenever it saved time steps."""
        node.saved_steps += saved_steps
        node.worth = self._age + node.saved_steps / node.size_bytes
        node.arrival = self._arrivals

    def next_arrival(self) -> None:
        """Begins an insertion or a use: nodes that are renewed together go together."""
        self._arrivals += 1

    def make_room(self, size_bytes: int) -> bool:
        """Lets nodes go until so many bytes are free; False: they are not, and some nodes may have gone."""
        if size_bytes > self.limit_bytes // _SHARE:
            return False
        looks = _LOOKS
        while self.used_bytes + size_bytes > self.limit_bytes:
            least: tuple[float, BudgetedTree] | None = None
            for tree in self._trees:
                worth, looked = tree.least_worth(looks)
                looks -= looked
                if worth is not None and (least is None or worth < least[0]):
                    least = worth, tree
            if least is None or looks <= 0:
                return False
            looks -= 1
            self._age = max(self._age, least[0])
            least[1].drop_least()
            self.evictions += 1
        return True

    def _leave(self, usage: "Usage") -> None:
        self.used_bytes -= usage.used_bytes
        self.nodes -= usage.nodes


class Usage:
    """What one tree takes of the budget.

    Args:
        budget: Of the server.
    """

    __slots__ = ("_budget", "nodes", "used_bytes")

    def __init__(self, budget: PrefixBudget) -> None:
        self._budget = budget
        self.nodes = 0
        self.used_bytes = 0

    def add(self, nodes: int, size_bytes: int) -> None:
        """Counts nodes that came (or went: both numbers are negative)."""
        self.nodes += nodes
        self.used_bytes += size_bytes
        self._budget.nodes += nodes
        self._budget.used_bytes += size_bytes
