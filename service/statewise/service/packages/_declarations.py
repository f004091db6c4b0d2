"""Merges two declarations of a graph: its metadata, and model.toml, which overrides the metadata.

Compares nothing with the graph (`_graph_spec.py` does); `statewise.wire` has checked each declaration alone.
"""

from dataclasses import fields, replace
from typing import Any, TypeVar

from statewise.wire import ModelDeclaration, ModelSpec, StateDeclaration, TensorDeclaration

_T = TypeVar("_T", TensorDeclaration, StateDeclaration)


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
