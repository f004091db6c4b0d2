"""Follows tensors through an ONNX graph: what depends on them, and which operators hold their state."""

from collections import defaultdict
from collections.abc import Iterator

import onnx

STATE_INPUTS = {"RNN": {5: 1}, "GRU": {5: 1}, "LSTM": {5: 1, 6: 2}}
"""For each recurrent operator: index of an initial state's input -> index of the final state's output."""

MOVING_OPERATORS = frozenset(
    {
        *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity"),
        *("Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
"""Operators that rearrange numbers without computing with them."""

_LENGTHS_INPUT = 4

StateSlot = tuple[str, str]
"""A node's title, and the index of one of its final states among its outputs."""


class DataFlow:
    """The tensors of one graph, with the nodes that make and read them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._maker: dict[str, onnx.NodeProto] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._stored = {entry.name: tuple(entry.dims) for entry in graph.initializer}
        for node in graph.node:
            for name in node.output:
                self._maker[name] = node
            for name in set(read_names(node)):
                self._readers[name].append(node)

    def depends(self, target: str, source: str) -> bool:
        """Returns whether target is computed from source."""
        seen, todo = set(), [target]
        while todo:
            name = todo.pop()
            if name == source:
                return True
            if name in self._maker and name not in seen:
                seen.add(name)
                todo += read_names(self._maker[name])
        return False

    def gives_lengths(self, name: str) -> bool:
        """Returns whether recurrent operators use an input as sequence_lens, and nothing else uses it."""
        slots = self._reached_slots(name)
        return bool(slots) and all(slot == "lengths" for _, slot in slots)

    def starts(self, name: str) -> frozenset[StateSlot]:
        """Returns the states whose initial value an input is; empty where the input has another use too."""
        slots = self._reached_slots(name)
        return slots if all(slot.isdecimal() for _, slot in slots) else frozenset()

    def ends(self, name: str) -> frozenset[StateSlot]:
        """Returns the states whose final value an output holds."""
        found, todo = set(), [name]
        while todo:
            current = todo.pop()
            node = self._maker.get(current)
            if node is None:
                continue
            if node.op_type in MOVING_OPERATORS:
                todo += [entry for entry in node.input[: None if node.op_type == "Concat" else 1] if entry]
            else:
                found.add((node_title(node), str(list(node.output).index(current))))
        return frozenset(found)

    def hides_state(self) -> bool:
        """Returns whether there are operators whose state `expose_state` could show."""
        return any(
            node.op_type in ("Loop", "Scan") or (node.op_type in STATE_INPUTS and reads_forwards(node))
            for node in self._maker.values()
        )

    def vocabulary_size(self, name: str) -> int | None:
        """Counts the rows of the constant table that an input selects from; None for other inputs."""
        sizes, seen, todo = set(), set(), [name]
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            for node in self._readers[current]:
                if node.op_type == "Gather" and node.input[1] == current and node.input[0] in self._stored:
                    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
                    sizes.add(self._stored[node.input[0]][axis])
                elif node.op_type in MOVING_OPERATORS and node.input[0] == current:
                    todo += list(node.output)
        return min(sizes, default=None)

    def _reached_slots(self, name: str) -> frozenset[tuple[str, str]]:
        """Finds the uses of a tensor after operators that only move numbers: a node's title and `_slot`."""
        found, seen, todo = set(), set(), [name]
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            for node in self._readers[current]:
                if (
                    node.op_type in MOVING_OPERATORS and node.input[0] == current
                ) or node.op_type == "Concat":
                    todo += list(node.output)
                elif node.op_type not in ("Shape", "Size"):
                    found |= {(node_title(node), slot) for slot in _slots(node, current)}
        return frozenset(found)


def reads_forwards(node: onnx.NodeProto) -> bool:
    """Returns whether a recurrent operator reads sequences from begin to end alone."""
    return all(entry.s == b"forward" for entry in node.attribute if entry.name == "direction")


def read_names(node: onnx.NodeProto) -> Iterator[str]:
    """Yields every tensor that a node reads, those that the bodies of loops and branches read included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for body in [attribute.g, *attribute.graphs]:
            for inner in body.node:
                yield from read_names(inner)


def _slots(node: onnx.NodeProto, name: str) -> set[str]:
    indices = [index for index, entry in enumerate(node.input) if entry == name]
    # A tensor that only the body of a loop or branch reads is data.
    return {_slot(node, index) for index in indices} or {"data"}


def _slot(node: onnx.NodeProto, index: int) -> str:
    """Names the use of a node's input: an initial state as the index of its final state, "lengths", or
    "data".
    """
    if node.op_type in STATE_INPUTS:
        if index == _LENGTHS_INPUT:
            return "lengths"
        return str(STATE_INPUTS[node.op_type].get(index, "data"))
    if node.op_type == "Loop":
        return str(index - 2) if index >= 2 else "data"
    if node.op_type == "Scan":
        scanned = next(entry.i for entry in node.attribute if entry.name == "num_scan_inputs")
        return str(index) if index < len(node.input) - scanned else "data"
    return "data"


def node_title(node: onnx.NodeProto) -> str:
    """Names a node: by its name, or by its operator and first output."""
    return node.name or f"{node.op_type} that gives {next(filter(None, node.output))}"
