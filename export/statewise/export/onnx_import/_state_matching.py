"""Matches state inputs of a foreign graph with the outputs that succeed them.

Never guesses: every match has a reason, and where the graph leaves a choice the import is refused with the
candidates. A state has no time axis, and its successor depends on it. More evidence counts in this order:

1. The user's declaration.
2. Structure: the input starts a recurrent operator (RNN, LSTM, GRU, Loop, Scan) and the output is the end
   of the same one; only operators that move numbers lie between.
3. Names: alike apart from words such as in, out, new, next, prev, past, 0 and n.
4. Shape: no other output has the input's type and shape, no other input has the output's, and an input and an
   output are left over for data.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from statewise.export.base import SourceError
from statewise.export.onnx_import._data_flow import DataFlow
from statewise.export.onnx_import._graph_tensor import GraphTensor

_ROLE_WORDS = re.compile(
    r"(?<![a-z])(in|input|out|output|new|next|prev|previous|past|present|last|initial|init|final|0|n|t|1)(?![a-z])"
)


@dataclass(frozen=True)
class StateMatch:
    """A state input, the output that succeeds it, and the evidence for the match."""

    input: GraphTensor
    output: GraphTensor
    reason: str


def match_states(
    path: Path,
    inputs: Mapping[str, GraphTensor],
    outputs: Mapping[str, GraphTensor],
    flow: DataFlow,
    declared: Mapping[str, str],
) -> tuple[StateMatch, ...]:
    """Matches states, in the order of the graph's inputs.

    Args:
        path: Named in errors.
        inputs: By name.
        outputs: By name.
        flow: Of the same graph.
        declared: Names of state outputs by those of state inputs, from the user.

    Raises:
        SourceError: no state, or a choice that the graph leaves open.
    """
    matcher = _Matcher(inputs, outputs, flow, declared)
    matcher.match_by_structure()
    matcher.match_by_name()
    left = matcher.match_by_shape()
    matches = matcher.matches
    rest = [name for name in matcher.candidates if name not in matches]
    undecided = {name: left[name] for name in rest if len(left[name]) > 1 or (left[name] and not matches)}
    if not matches or (undecided and len(rest) > 1):
        raise SourceError(path, _refusal(undecided, inputs, outputs))
    return tuple(matches[name] for name in inputs if name in matches)


class _Matcher:
    """The matches found so far, and the candidates of every input that has none."""

    def __init__(
        self,
        inputs: Mapping[str, GraphTensor],
        outputs: Mapping[str, GraphTensor],
        flow: DataFlow,
        declared: Mapping[str, str],
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._flow = flow
        self._declared = declared
        self.matches = {
            source: StateMatch(inputs[source], outputs[target], "declared")
            for source, target in declared.items()
        }
        self.candidates = {
            name: [
                other.name
                for other in outputs.values()
                if _fits(tensor, other)
                and other.name not in declared.values()
                and flow.depends(other.name, name)
            ]
            for name, tensor in inputs.items()
            if name not in declared and not flow.gives_lengths(name)
        }

    def match_by_structure(self) -> None:
        """Matches inputs and outputs that start and end the same recurrent operators."""
        for name, fitting in self.candidates.items():
            starts = self._flow.starts(name)
            same = [target for target in fitting if starts and self._flow.ends(target) == starts]
            operators = ", ".join(sorted({node for node, _ in starts}))
            self._settle(name, same, f"starts {operators}, whose end the output is")

    def match_by_name(self) -> None:
        """Matches inputs and outputs whose names have the same stem."""
        for name, fitting in self.candidates.items():
            if name not in self.matches:
                # The stem of "input" and "output", which are data, is empty.
                stem = _stem(name)
                alike = [target for target in fitting if stem and _stem(target) == stem]
                self._settle(name, alike, "alike in name")

    def match_by_shape(self) -> dict[str, list[str]]:
        """Matches the only input and output of a shape; returns the candidates that were left before."""
        taken = {match.output.name for match in self.matches.values()}
        left = {
            name: [target for target in fitting if target not in taken]
            for name, fitting in self.candidates.items()
            if name not in self.matches
        }
        alone = {
            name: fitting
            for name, fitting in left.items()
            if len(fitting) == 1 and sum(fitting[0] in others for others in left.values()) == 1
        }
        # An input and an output of data may have the same shape too, so some of each must be left over.
        matched = len(self.matches) + len(alone)
        if len(self.candidates) + len(self._declared) > matched and len(self._outputs) > matched:
            for name, fitting in alone.items():
                self._settle(name, fitting, "the only output of its shape")
        return left

    def _settle(self, name: str, fitting: list[str], reason: str) -> None:
        taken = {match.output.name for match in self.matches.values()}
        if len(fitting) == 1 and fitting[0] not in taken:
            self.matches[name] = StateMatch(self._inputs[name], self._outputs[fitting[0]], reason)


def _fits(source: GraphTensor, target: GraphTensor) -> bool:
    """Whether target could succeed source: type and shape alike, and at most one free size."""
    return (
        source.dtype == target.dtype
        and len(source.sizes) == len(target.sizes) > 0
        and len(source.free_axes) <= 1
        and all(
            a == b or (isinstance(a, str) or isinstance(b, str))
            for a, b in zip(source.sizes, target.sizes, strict=True)
        )
    )


def _stem(name: str) -> str:
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name.rpartition("/")[2]).lower()
    words = re.sub(r"[_.:\-]+", " ", words)
    words = re.sub(r"([a-z])(\d+|n)\b", r"\1 \2", words) if len(words) <= 3 else words
    return " ".join(_ROLE_WORDS.sub(" ", words).split())


def _refusal(
    undecided: Mapping[str, list[str]], inputs: Mapping[str, GraphTensor], outputs: Mapping[str, GraphTensor]
) -> str:
    if not undecided:
        seen = "; ".join(
            f"{tensor.name} {list(tensor.sizes)}" for tensor in [*inputs.values(), *outputs.values()]
        )
        return (
            "no state found: no output depends on an input of its own type and shape that has no time axis "
            f"({seen}); if the recurrent operators hide it, expose it (--expose-state)"
        )
    choices = "; ".join(
        f"{name} could go on as {' or '.join(fitting)}" for name, fitting in undecided.items()
    )
    return f"the graph does not say which inputs are state: {choices}; declare it (--state INPUT=OUTPUT)"
