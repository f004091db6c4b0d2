"""Matches state inputs of a foreign graph with the outputs that succeed them.

Never guesses: every match has a reason, and where the graph leaves a choice the import is refused with the
candidates. A state has no time axis, and its successor depends on it. More evidence counts in this order:

1. The user's declaration.
2. Structure: the input starts a recurrent operator (RNN, LSTM, GRU, Loop, Scan) and the output is the end
   of the same one; only operators that move numbers lie between.
3. Names: alike apart from words such as in, out, new, next, prev, past, 0 and n, where that pairs every input
   of such a name with one output. A name that fits two inputs and one output decides nothing.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from statewise.export.base import SourceError
from statewise.export.onnx_import.discovery._data_flow import DataFlow
from statewise.export.onnx_import.discovery._graph_tensor import GraphTensor

_ROLE_WORDS = frozenset(
    (
        *("in", "input", "prev", "previous", "past", "last", "cur", "current", "initial", "init"),
        *("out", "output", "new", "next", "present", "final"),
    )
)
_NUMBERS = frozenset(("n", "t"))
"""Words that, like digits, either number states or mark the state before and after: the latter only where no
two states differ by them."""


@dataclass(frozen=True)
class StateMatch:
    """A state input, the output that succeeds it, and the evidence for the match."""

    input: GraphTensor
    output: GraphTensor
    reason: str


@dataclass(frozen=True)
class StateMatches:
    """The matches, in the order of the graph's inputs, and what could be state and has no evidence.

    Attributes:
        found: The matches.
        undecided: The outputs that could succeed an input, by the input's name.
    """

    found: tuple[StateMatch, ...]
    undecided: Mapping[str, list[str]]


def match_states(
    inputs: Mapping[str, GraphTensor],
    outputs: Mapping[str, GraphTensor],
    flow: DataFlow,
    declared: Mapping[str, str],
    data: frozenset[str],
) -> StateMatches:
    """Matches states.

    Args:
        inputs: By name.
        outputs: By name.
        flow: Data flow of the same graph.
        declared: Names of state outputs by those of state inputs, from the user.
        data: Names of inputs and outputs that are no state, from the user.
    """
    matches = {
        source: StateMatch(inputs[source], outputs[target], "declared") for source, target in declared.items()
    }
    candidates = {
        name: [
            other.name
            for other in outputs.values()
            if _fits(tensor, other)
            and other.name not in {*declared.values(), *data}
            and flow.depends(other.name, name)
        ]
        for name, tensor in inputs.items()
        if name not in declared and name not in data and not flow.gives_lengths(name)
    }
    for pairs in (_by_structure(candidates, flow), _by_name(candidates, data)):
        for name, (target, reason) in pairs.items():
            taken = {match.output.name for match in matches.values()}
            if name not in matches and target not in taken:
                matches[name] = StateMatch(inputs[name], outputs[target], reason)
    taken = {match.output.name for match in matches.values()}
    undecided = {
        name: left
        for name, fitting in candidates.items()
        if name not in matches and (left := [target for target in fitting if target not in taken])
    }
    return StateMatches(tuple(matches[name] for name in inputs if name in matches), undecided)


def refuse_undecided(
    path: Path,
    matches: StateMatches,
    inputs: Mapping[str, GraphTensor],
    outputs: Mapping[str, GraphTensor],
    flow: DataFlow,
) -> None:
    """Refuses a graph without a state, and one where evidence is missing for an input that may be a state.

    Raises:
        SourceError: naming the options that decide.
    """
    if not matches.found and (not matches.undecided or len(inputs) == 1):
        seen = "; ".join(
            f"{tensor.name} {list(tensor.sizes)}" for tensor in [*inputs.values(), *outputs.values()]
        )
        hidden = "if recurrent operators hide it, expose it (--expose-state); " if flow.hides_state() else ""
        raise SourceError(
            path,
            "no state found: no output depends on an input of its own type and shape that has no time axis "
            f"({seen}); {hidden}for Predict alone, without sessions, say so (--stateless), or write "
            "a model.toml",
        )
    rest = len(inputs) - len(matches.found) - sum(flow.gives_lengths(name) for name in inputs)
    # Where states have evidence, the last input left is data, and so is the last output left.
    if matches.found and 1 in (rest, len(outputs) - len(matches.found)):
        return
    if matches.undecided:
        choices = "; ".join(
            f"{name} could go on as {' or '.join(fitting)}" for name, fitting in matches.undecided.items()
        )
        name, fitting = next(iter(matches.undecided.items()))
        raise SourceError(
            path,
            f"the graph does not say which inputs are state: {choices}; declare each one as state "
            f"(--state {name}={fitting[0]}) or as data (--input {name}); for Predict alone, without "
            "sessions, say so (--stateless); or write a model.toml",
        )


def _by_structure(candidates: Mapping[str, list[str]], flow: DataFlow) -> dict[str, tuple[str, str]]:
    """Returns inputs and outputs that start and end the same recurrent operators."""
    pairs = {}
    for name, fitting in candidates.items():
        starts = flow.starts(name)
        same = [target for target in fitting if starts and flow.ends(target) == starts]
        if len(same) == 1:
            operators = ", ".join(sorted({node for node, _ in starts}))
            pairs[name] = (same[0], f"the initial and the final state of {operators}")
    return pairs


def _by_name(candidates: Mapping[str, list[str]], data: frozenset[str]) -> dict[str, tuple[str, str]]:
    """Pairs inputs and outputs whose names have the same stem, in groups that pair up without a remainder."""
    befores, afters = defaultdict(list), defaultdict(list)
    for name in candidates:
        befores[_stem(name, numbers=False)].append(name)
    for target in dict.fromkeys(target for fitting in candidates.values() for target in fitting):
        afters[_stem(target, numbers=False)].append(target)
    pairs: dict[str, tuple[str, str]] = {}
    for stem, targets in afters.items():
        # The stem of "input" and "output", which are data, is empty.
        names = [name for name in befores[stem] if set(candidates[name]) & set(targets)] if stem else []
        if len(names) != len(targets):
            continue
        numbered = len(names) > 1
        by_stem = {_stem(target, numbers=numbered): target for target in targets}
        group = {name: by_stem.get(_stem(name, numbers=numbered)) for name in names}
        if len(set(group.values())) == len(names) and all(
            target in candidates[name] for name, target in group.items()
        ):
            pairs |= {name: (str(target), "alike in name") for name, target in group.items()}
    return pairs


def _fits(source: GraphTensor, target: GraphTensor) -> bool:
    """Returns whether target could succeed source: type and shape alike, and at most one free size."""
    return (
        source.dtype == target.dtype
        and len(source.sizes) == len(target.sizes)
        and len(source.free_axes) <= 1
        and all(
            a == b or (isinstance(a, str) or isinstance(b, str))
            for a, b in zip(source.sizes, target.sizes, strict=True)
        )
    )


def _stem(name: str, *, numbers: bool) -> str:
    """Returns the words of a name that say nothing about before and after; with numbers, those too."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name.rpartition("/")[2]).lower()
    words = re.sub(r"[_.:\-]+", " ", words)
    words = re.sub(r"([a-z])(\d+)\b", r"\1 \2", words)
    words = re.sub(r"\b(?!in\b)([a-z])n\b", r"\1 n", words)  # hn, cn
    kept = [word for word in words.split() if word not in _ROLE_WORDS]
    if numbers:
        return " ".join(kept)
    letters = [word for word in kept if not word.isdecimal()]
    return " ".join([word for word in letters if word not in _NUMBERS] or letters)
