"""What the inputs and outputs of somebody else's graph mean: which are state, and what goes on as what.

Not a guess: every state pair has a reason, and where the graph leaves a choice the import is refused with
what was seen. A state has no time axis, and its successor depends on it; beyond that, evidence counts in this
order.

1. Declared by the user.
2. Structure: the input starts a recurrent operator (RNN, LSTM, GRU, Loop, Scan), and the output is what the
   same one ends with; only operators that move numbers around lie between.
3. Names: alike, apart from words such as in, out, new, next, prev, past, 0 and n.
4. Shape: no other output has the input's type and shape, no other input has the output's, and enough is left
   over to be what the model is for.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from statewise.export.base import SourceError

_MOVERS = frozenset(
    {
        *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity"),
        *("Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
_INITIAL = {"RNN": {5: 1}, "GRU": {5: 1}, "LSTM": {5: 1, 6: 2}}  # state input -> the output that succeeds it
_LENGTHS_INPUT = 4
_MARKS = re.compile(
    r"(?<![a-z])(in|input|out|output|new|next|prev|previous|past|present|last|initial|init|final|0|n|t|1)(?![a-z])"
)

Dims = tuple[int | str, ...]


@dataclass(frozen=True)
class Value:
    """An input or output of the graph; text among the sizes stands for a free one."""

    name: str
    dtype: str
    dims: Dims

    @property
    def free(self) -> list[int]:
        """Axes of free size."""
        return [axis for axis, size in enumerate(self.dims) if isinstance(size, str)]


@dataclass(frozen=True)
class FoundPair:
    """A state, and why it is one."""

    input: Value
    output: Value
    reason: str


@dataclass(frozen=True)
class Discovery:
    """A graph's inputs and outputs by their meaning.

    Attributes:
        inputs: What a caller gives, state and lengths excluded.
        outputs: What a caller gets, state excluded.
        state: Pairs, in the order of the graph's inputs.
        lengths: The input that holds each row's number of time steps.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    state: tuple[FoundPair, ...]
    lengths: Value | None


def discover(path: Path, graph: onnx.GraphProto, *, declared: Mapping[str, str]) -> Discovery:
    """Reads the meaning of a graph's inputs and outputs off the graph.

    Args:
        path: Named in errors.
        graph: Of a model that the checker passed.
        declared: State outputs by state input.

    Raises:
        SourceError: no state, or a choice that the graph does not make, with what was seen.
    """
    stored = {entry.name for entry in graph.initializer}
    inputs = {entry.name: _value(path, entry) for entry in graph.input if entry.name not in stored}
    outputs = {entry.name: _value(path, entry) for entry in graph.output}
    for name, known in [
        *((entry, inputs) for entry in declared),
        *((entry, outputs) for entry in declared.values()),
    ]:
        if name not in known:
            raise SourceError(path, f"state {name!r}: expected one of {', '.join(map(repr, known))}")
    flow = _Flow(graph)
    idle = [name for name in inputs if not any(flow.depends(output, name) for output in outputs)]
    if idle:
        raise SourceError(
            path, f"input {idle[0]!r}: expected every input to reach an output; it reaches none"
        )
    lengths = next((value for value in inputs.values() if flow.gives_lengths(value.name)), None)
    pairs = _pairs(path, inputs, outputs, flow, declared)
    taken = {pair.input.name for pair in pairs} | {lengths.name if lengths else ""}
    given = {pair.output.name for pair in pairs}
    found = Discovery(
        inputs=tuple(value for value in inputs.values() if value.name not in taken),
        outputs=tuple(value for value in outputs.values() if value.name not in given),
        state=pairs,
        lengths=lengths,
    )
    if not found.inputs or not found.outputs:
        raise SourceError(
            path, "expected an input and an output beside the state; every one seems to be state"
        )
    return found


def _value(path: Path, entry: onnx.ValueInfoProto) -> Value:
    tensor = entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise SourceError(path, f"{entry.name!r}: expected a tensor whose number of axes the file says")
    dims = tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param or f"{entry.name}.{axis}"
        for axis, size in enumerate(tensor.shape.dim)
    )
    return Value(entry.name, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name, dims)


def _pairs(
    path: Path,
    inputs: Mapping[str, Value],
    outputs: Mapping[str, Value],
    flow: "_Flow",
    declared: Mapping[str, str],
) -> tuple[FoundPair, ...]:
    pairs = {
        source: FoundPair(inputs[source], outputs[target], "declared") for source, target in declared.items()
    }
    candidates: dict[str, list[str]] = {}
    for name, value in inputs.items():
        if name not in pairs and not flow.gives_lengths(name):
            candidates[name] = [
                other.name
                for other in outputs.values()
                if _fits(value, other)
                and other.name not in declared.values()
                and flow.depends(other.name, name)
            ]

    def settle(name: str, fitting: list[str], reason: str) -> None:
        if len(fitting) == 1 and all(pair.output.name != fitting[0] for pair in pairs.values()):
            pairs[name] = FoundPair(inputs[name], outputs[fitting[0]], reason)

    for name, fitting in candidates.items():
        starts = flow.starts(name)
        same = [target for target in fitting if starts and flow.ends(target) == starts]
        settle(
            name, same, f"starts {', '.join(sorted({node for node, _ in starts}))}, whose end the output is"
        )
    for name, fitting in candidates.items():
        if name not in pairs:
            stem = _stem(name)  # nothing is left of "input" and "output", which are data
            alike = [target for target in fitting if stem and _stem(target) == stem]
            settle(name, alike, "alike in name")
    taken = {pair.output.name for pair in pairs.values()}
    left = {
        name: [target for target in fitting if target not in taken]
        for name, fitting in candidates.items()
        if name not in pairs
    }
    alone = {
        name: fitting
        for name, fitting in left.items()
        if len(fitting) == 1 and sum(fitting[0] in others for others in left.values()) == 1
    }
    # Data may be alike in shape too: something has to be left for it.
    taken_after = len(pairs) + len(alone)
    if len(candidates) + len(declared) > taken_after and len(outputs) > taken_after:
        for name, fitting in alone.items():
            settle(name, fitting, "the only output of its shape")
    rest = [name for name in candidates if name not in pairs]
    undecided = {name: left[name] for name in rest if len(left[name]) > 1 or (left[name] and not pairs)}
    if not pairs or (undecided and len(rest) > 1):
        raise SourceError(path, _refusal(undecided, inputs, outputs))
    return tuple(pairs[name] for name in inputs if name in pairs)


def _refusal(
    undecided: Mapping[str, list[str]], inputs: Mapping[str, Value], outputs: Mapping[str, Value]
) -> str:
    if not undecided:
        seen = "; ".join(
            f"{value.name} {list(value.dims)}" for value in [*inputs.values(), *outputs.values()]
        )
        return (
            "no state found: no output depends on an input of its own type and shape that has no time axis "
            f"({seen}); if the recurrent operators hide it, expose it (--expose-state)"
        )
    choices = "; ".join(
        f"{name} could go on as {' or '.join(fitting)}" for name, fitting in undecided.items()
    )
    return f"the graph does not say which inputs are state: {choices}; declare it (--state INPUT=OUTPUT)"


def _fits(source: Value, target: Value) -> bool:
    """Whether target could be source's successor: type and shape alike, and no more than one free size."""
    return (
        source.dtype == target.dtype
        and len(source.dims) == len(target.dims) > 0
        and len(source.free) <= 1
        and all(
            a == b or (isinstance(a, str) or isinstance(b, str))
            for a, b in zip(source.dims, target.dims, strict=True)
        )
    )


def _stem(name: str) -> str:
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name.rpartition("/")[2]).lower()
    words = re.sub(r"[_.:\-]+", " ", words)
    words = re.sub(r"([a-z])(\d+|n)\b", r"\1 \2", words) if len(words) <= 3 else words
    return " ".join(_MARKS.sub(" ", words).split())


class _Flow:
    """Which tensor of a graph comes from which."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._maker: dict[str, onnx.NodeProto] = {}
        self._users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.output:
                self._maker[name] = node
            for name in set(read_names(node)):
                self._users[name].append(node)

    def depends(self, target: str, source: str) -> bool:
        """Whether target is computed from source."""
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
        """Whether an input is nothing but the sequence_lens of recurrent operators."""
        slots = self._reached(name)
        return bool(slots) and all(slot == "lengths" for _, slot in slots)

    def starts(self, name: str) -> frozenset[tuple[str, str]]:
        """The (operator, state) that an input starts, if it does nothing else."""
        slots = self._reached(name)
        return slots if all(slot.isdecimal() for _, slot in slots) else frozenset()

    def ends(self, name: str) -> frozenset[tuple[str, str]]:
        """The (operator, state) whose end an output is."""
        found, todo = set(), [name]
        while todo:
            current = todo.pop()
            node = self._maker.get(current)
            if node is None:
                continue
            if node.op_type in _MOVERS:
                todo += [entry for entry in node.input[: None if node.op_type == "Concat" else 1] if entry]
            else:
                found.add((_title(node), str(list(node.output).index(current))))
        return frozenset(found)

    def _reached(self, name: str) -> frozenset[tuple[str, str]]:
        found, seen, todo = set(), set(), [name]
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            for node in self._users[current]:
                if (node.op_type in _MOVERS and node.input[0] == current) or node.op_type == "Concat":
                    todo += list(node.output)
                elif node.op_type not in ("Shape", "Size"):
                    found |= {(_title(node), slot) for slot in _slots(node, current)}
        return frozenset(found)


def _slots(node: onnx.NodeProto, name: str) -> set[str]:
    """What a tensor is to a node: the numbers of the outputs that succeed it, "lengths", or "data"."""
    places = [place for place, entry in enumerate(node.input) if entry == name]
    return {_slot(node, place) for place in places} or {"data"}


def _slot(node: onnx.NodeProto, place: int) -> str:
    if node.op_type in _INITIAL:
        if place == _LENGTHS_INPUT:
            return "lengths"
        return str(_INITIAL[node.op_type].get(place, "data"))
    if node.op_type == "Loop":
        return str(place - 2) if place >= 2 else "data"
    if node.op_type == "Scan":
        scanned = next(entry.i for entry in node.attribute if entry.name == "num_scan_inputs")
        return str(place) if place < len(node.input) - scanned else "data"
    return "data"


def _title(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} that gives {next(filter(None, node.output))}"


def read_names(node: onnx.NodeProto) -> Iterator[str]:
    """Every tensor a node reads, also from within the bodies of its loops and branches."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for body in [attribute.g, *attribute.graphs]:
            for inner in body.node:
                yield from read_names(inner)
