"""Determines which axis of a tensor is batch, which is time, and which belong to one sample.

Reads the axes from the declaration, or from the names that the graph gives its free sizes; never guesses.
Errors name the entry, what was expected and what the graph has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statewise.wire import (
    BATCH,
    DTYPES,
    TIME,
    AxisWords,
    MetadataError,
    StateDeclaration,
    TensorDeclaration,
)

_NAMES = {
    **dict.fromkeys(("batch", "batch_size", "b"), BATCH),
    **dict.fromkeys(("time", "time_steps", "steps", "t", "sequence", "sequence_length", "seq_len"), TIME),
}


@dataclass(frozen=True, slots=True)
class GraphValue:
    """An input or output as the graph describes it.

    Attributes:
        dtype: Type of its elements, as packages name it.
        dims: Size of each axis; text or None: a free size.
    """

    dtype: str
    dims: tuple[int | str | None, ...]


Values = Mapping[str, GraphValue]


def required(graph: Values, name: str, what: str, kind: str) -> GraphValue:
    """Returns the graph's input or output (`kind`) of that name, for the entry that `what` names."""
    if name not in graph:
        known = ", ".join(map(repr, graph)) or "none"
        raise MetadataError(f"{what}: expected one of the graph's {kind}s, {known}; got {name!r}")
    value = graph[name]
    if value.dtype not in DTYPES:
        raise MetadataError(f"{what} {name!r}: expected elements of {', '.join(DTYPES)}; got {value.dtype}")
    return value


def state_axes(pair: StateDeclaration, before: GraphValue, after: GraphValue) -> AxisWords:
    """Returns the axes of a state input, checked to be those of the state output."""
    where = f"state {pair.input!r}"
    axes = pair.axes
    if axes is None and pair.shape is not None:
        axes = (*pair.shape[: pair.batch_axis or 0], BATCH, *pair.shape[pair.batch_axis or 0 :])
    axes = _checked(where, axes, before, pair.dtype, fixed_time=None)
    if TIME in axes:
        raise MetadataError(f"{where}: axes: expected no time; got {list(axes)}")
    if after.dtype != before.dtype or not _compatible(before.dims, after.dims):
        raise MetadataError(
            f"state output {pair.output!r}: expected what {pair.input!r} is, {before.dtype} "
            f"{list(before.dims)}; got {after.dtype} {list(after.dims)}"
        )
    return axes


def _compatible(left: Sequence[int | str | None], right: Sequence[int | str | None]) -> bool:
    return len(left) == len(right) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(left, right, strict=True)
    )


def with_trailing_axes(entry: TensorDeclaration, value: GraphValue) -> GraphValue:
    """Adds the last axes that an output lacks in the graph, where they are declared and of size 1."""
    axes = entry.axes or ()
    missing = axes[len(value.dims) :]
    return GraphValue(value.dtype, (*value.dims, *(1 for _ in missing))) if missing else value


def tensor_axes(
    kind: str, entry: TensorDeclaration, value: GraphValue, *, fixed_time: int | None
) -> AxisWords:
    """Finds the axes of an input or output (`kind`); a fixed time axis must have the size `fixed_time`."""
    axes = entry.axes
    if axes is None and entry.shape is not None:
        axes = (*leading(entry.per_step is not False), *entry.shape)
    return _checked(f"{kind} {entry.name!r}", axes, value, entry.dtype, fixed_time=fixed_time)


def _checked(
    where: str, axes: AxisWords | None, value: GraphValue, dtype: str | None, *, fixed_time: int | None
) -> AxisWords:
    """Returns axes that fit the graph's sizes: the declared ones, or those that the graph's names give."""
    dims = value.dims
    if dtype not in (None, value.dtype):
        raise MetadataError(f"{where}: dtype: expected the graph's, {value.dtype}; got {dtype}")
    if axes is None:
        axes = tuple(size if isinstance(size, int) else _NAMES.get(str(size).lower(), "") for size in dims)
        if "" in axes or any(axes.count(word) > 1 for word in (BATCH, TIME)):
            raise MetadataError(
                f'{where}: axes: expected in model.toml which of {list(dims)} are "batch" and "time"; '
                "the graph's names do not say"
            )
    if len(axes) != len(dims):
        raise MetadataError(
            f"{where}: axes: expected {len(dims)}, as the graph has {list(dims)}; got {list(axes)}"
        )
    for axis, size in zip(axes, dims, strict=True):
        if not isinstance(size, int):
            continue
        allowed = {BATCH: 1, TIME: fixed_time or size}.get(axis, axis) if isinstance(axis, str) else axis
        if size != allowed:
            raise MetadataError(
                f"{where}: axes: expected sizes as the graph has them, {list(dims)}, with batch free or 1"
                + (f" and time free or {fixed_time}" if fixed_time else "")
                + f"; got {list(axes)}"
            )
    return axes


def sizes_of(axes: AxisWords) -> tuple[int, ...]:
    """Returns the axes that are part of one sample."""
    return tuple(axis for axis in axes if isinstance(axis, int))


def leading(per_step: bool) -> AxisWords:
    """Returns the leading axes of a tensor in the form of packages."""
    return (TIME, BATCH) if per_step else (BATCH,)
