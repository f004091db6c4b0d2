"""What metadata says of a graph and what model.toml says over it, as one declaration.

Not what the graph itself says (interface). Nothing is checked here: both were read by `statewise.wire`.
"""

from dataclasses import fields, replace
from typing import Any, TypeVar

from statewise.wire import ModelDeclaration, ModelSpec, StateDeclaration, TensorDeclaration

_T = TypeVar("_T", TensorDeclaration, StateDeclaration)


def declare(spec: ModelSpec) -> ModelDeclaration:
    """Metadata in the form of a declaration, to be overridden by one."""
    return ModelDeclaration.from_toml(spec.to_toml())


def override(base: ModelDeclaration, over: ModelDeclaration) -> ModelDeclaration:
    """What `over` says, and `base` where it says nothing; tensors and states are matched by their names."""
    whole: ModelDeclaration = _said(base, over)
    return replace(
        whole,
        inputs=_matched(base.inputs, over.inputs, "name"),
        outputs=_matched(base.outputs, over.outputs, "name"),
        state=_matched(base.state, over.state, "input"),
    )


def _said(base: Any, over: Any) -> Any:
    """`base` with those fields of `over` that are not at their default."""
    said = {
        entry.name: getattr(over, entry.name)
        for entry in fields(over)
        if getattr(over, entry.name) not in (entry.default, {})
    }
    if "axes" in said:  # another way to say what a shape says
        said = {name: None for name in ("shape", "batch_axis") if hasattr(base, name)} | said
    return replace(base, **said)


def _matched(base: tuple[_T, ...], over: tuple[_T, ...], key: str) -> tuple[_T, ...]:
    by_name = {getattr(entry, key): entry for entry in base}
    for entry in over:
        name = getattr(entry, key)
        by_name[name] = _said(by_name[name], entry) if name in by_name else entry
    return tuple(by_name.values())
