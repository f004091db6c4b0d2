"""Merges two declarations of a graph: its metadata, and model.toml, which overrides the metadata.

Compares nothing with the graph (`_graph_spec.py` does); `statewise.wire` has checked each declaration alone.
"""

import re
from dataclasses import fields, replace
from typing import Any, TypeVar

from statewise.wire import (
    ModelDeclaration,
    ModelSpec,
    StateDeclaration,
    TensorDeclaration,
    place_in_toml,
)

_T = TypeVar("_T", TensorDeclaration, StateDeclaration)

_SUBJECT = re.compile(r"(?P<kind>input|output|state)(?: output)? '(?P<name>.*?)'(?:: (?P<key>\w+):)?")
_UNKNOWN = re.compile(r"(?P<kind>input|output|state): .*; got '(?P<name>.*)'(?P<key>)$")


def place_of(mistake: str, declaration: ModelDeclaration, text: str) -> str:
    """Returns " (line N)" for the line of a model.toml that a mistake is about; empty: none is.

    Args:
        mistake: Begins with an entry, as `input 'x': axes: …` or `lengths: …`.
        declaration: What was read from the file.
        text: Its content.
    """
    subject = _SUBJECT.match(mistake) or _UNKNOWN.match(mistake)
    if subject is None:
        return place_in_toml(text, mistake.partition(":")[0])
    tensors = {"input": declaration.inputs, "output": declaration.outputs}.get(subject["kind"], ())
    names = [(entry.name, f"{subject['kind']}s[{at}]") for at, entry in enumerate(tensors)]
    for at, pair in enumerate(declaration.state):
        names += [(pair.input, f"state[{at}]"), (pair.output, f"state[{at}]")]
    where = next((where for name, where in names if name == subject["name"]), "")
    return where and place_in_toml(text, f"{where}.{subject['key'] or 'name'}")


def declare(spec: ModelSpec) -> ModelDeclaration:
    """Turns metadata into a declaration."""
    return ModelDeclaration.from_toml(spec.to_toml())


def override(base: ModelDeclaration, over: ModelDeclaration) -> ModelDeclaration:
    """Overrides the fields of `base` that `over` sets; tensors and states are matched by their names."""
    merged: ModelDeclaration = _merged(base, over)
    return replace(
        merged,
        inputs=_matched(base.inputs, over.inputs, "name"),
        outputs=_matched(base.outputs, over.outputs, "name"),
        state=_matched(base.state, over.state, "input"),
    )


def _merged(base: Any, over: Any) -> Any:
    """Returns `base` with those fields of `over` that are not at their default."""
    changes = {
        entry.name: getattr(over, entry.name)
        for entry in fields(over)
        if getattr(over, entry.name) not in (entry.default, {})
    }
    if "axes" in changes:  # replaces a shape, which gives the same sizes in another form
        changes = {name: None for name in ("shape", "batch_axis") if hasattr(base, name)} | changes
    return replace(base, **changes)


def _matched(base: tuple[_T, ...], over: tuple[_T, ...], key: str) -> tuple[_T, ...]:
    by_name = {getattr(entry, key): entry for entry in base}
    for entry in over:
        name = getattr(entry, key)
        by_name[name] = _merged(by_name[name], entry) if name in by_name else entry
    return tuple(by_name.values())
