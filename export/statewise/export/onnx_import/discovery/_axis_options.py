"""Lists the possible axes of batch and time of a foreign graph's inputs and states, likeliest first.

Axes that the user declares are the only possibility. Names of free sizes, and sizes that stand in several
tensors, narrow the list. Runs decide among the rest (`_graph_axes`).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from statewise.export.base import SourceError
from statewise.export.onnx_import.discovery._graph_tensor import GraphTensor, TensorAxes
from statewise.export.onnx_import.discovery._tensor_roles import TensorRoles
from statewise.wire import BATCH, TIME, AxisWords

_BATCH_NAMES = frozenset(("batch", "batch_size", "batchsize", "bs", "b", "n", "nbatch", "num_seqs"))
TIME_NAMES = frozenset(
    (
        *("time", "time_steps", "timesteps", "steps", "t", "frames", "num_frames", "samples", "num_samples"),
        *("sequence", "sequence_length", "seq", "seq_len", "seq_length", "length", "len", "l"),
    )
)


@dataclass(frozen=True)
class AxisChoice:
    """Possible axes of all inputs and states."""

    inputs: tuple[TensorAxes, ...]
    state: tuple[TensorAxes, ...]
    one_row: bool


def axis_choices(path: Path, roles: TensorRoles, declared: dict[str, AxisWords]) -> Iterator[AxisChoice]:
    """Yields the choices: with many rows in a run first, then with one.

    Raises:
        SourceError: a tensor with more free sizes than batch and time, or declared axes that do not fit.
    """
    states = [match.input for match in roles.state]
    for tensor in (*roles.inputs, *states):
        most = 1 if tensor in states else 2
        if tensor.name not in declared and len(tensor.free_axes) > most:
            raise SourceError(
                path,
                f"{'state' if tensor in states else 'input'} {tensor.name!r} {list(tensor.sizes)}: expected "
                f"{'batch' if tensor in states else 'batch and time'} to be all that is free; "
                f"give the others a size (--size {tensor.sizes[tensor.free_axes[-1]]}=N)",
            )
    symbols = {str(tensor.sizes[axis]) for tensor in states for axis in tensor.free_axes}
    for one_row in (False, True):
        options = [
            list(_options(path, tensor, declared.get(tensor.name), symbols, one_row, tensor in states))
            for tensor in (*roles.inputs, *states)
        ]
        for choice in itertools.product(*options):
            if _consistent(choice, one_row=one_row):
                count = len(roles.inputs)
                yield AxisChoice(choice[:count], choice[count:], one_row)


def _options(
    path: Path,
    tensor: GraphTensor,
    declared: AxisWords | None,
    symbols: set[str],
    one_row: bool,
    is_state: bool,
) -> Iterator[TensorAxes]:
    if declared is not None:
        yield from _declared_axes(path, tensor, declared, one_row=one_row, is_state=is_state)
        return
    free = tensor.free_axes
    # The name that a state's free size has counts for more than what names usually mean.
    batches = [axis for axis in free if tensor.sizes[axis] in symbols] or [
        axis for axis in free if _named(tensor, axis, _BATCH_NAMES)
    ]
    times = [axis for axis in free if axis not in batches and _named(tensor, axis, TIME_NAMES)]
    if is_state:
        if one_row:
            yield TensorAxes(tensor.with_sizes(dict.fromkeys(free, 1)))
        elif free:
            yield TensorAxes(tensor, batch=free[0])
        return
    orders: list[tuple[int | None, int | None]]
    if len(free) == 2:
        orders = [(free[0], free[1]), (free[1], free[0])]
    elif len(free) == 1:
        orders = [(None, free[0]), (free[0], None)] if one_row else [(free[0], None)]
    else:
        orders = [(None, None)] if one_row else []
    for batch, time in orders:
        if (batches and time in batches) or (times and batch in times):
            continue
        yield _axes(tensor, batch, time, one_row=one_row)


def _axes(tensor: GraphTensor, batch: int | None, time: int | None, *, one_row: bool) -> TensorAxes:
    if not one_row:
        ones = () if time is not None else _ones(tensor, kept=2)[:1]
        return TensorAxes(tensor, time=time, batch=batch, dropped=ones)
    if batch is not None:
        tensor = tensor.with_sizes({batch: 1})
    dropped = {*_ones(tensor, kept=1), *(() if batch is None else (batch,))}
    return TensorAxes(tensor, time=time, dropped=tuple(sorted(dropped - {time})))


def _ones(tensor: GraphTensor, *, kept: int) -> tuple[int, ...]:
    """Returns axes of size 1 before the features, so many that at least `kept` axes are left."""
    ones = [axis for axis, size in enumerate(tensor.sizes[:-1]) if size == 1]
    return tuple(ones[: max(len(tensor.sizes) - kept, 0)])


def _declared_axes(
    path: Path, tensor: GraphTensor, declared: AxisWords, *, one_row: bool, is_state: bool
) -> Iterator[TensorAxes]:
    """Yields the axes that the user gives; nothing where they need a run of many rows, or of one."""
    title = f"axes of {tensor.name!r}"
    if len(declared) != len(tensor.sizes) or (is_state and TIME in declared):
        expected = f"{len(tensor.sizes)}, as the graph has {list(tensor.sizes)}" + ", without time" * is_state
        raise SourceError(path, f"{title}: expected {expected}; got {list(declared)}")
    for axis, (word, size) in enumerate(zip(declared, tensor.sizes, strict=True)):
        if isinstance(size, int) and size != (1 if isinstance(word, str) else word):
            raise SourceError(
                path,
                f"{title}: expected sizes as the graph has them, {list(tensor.sizes)}; got {word!r} "
                f"for axis {axis}",
            )
    batch = declared.index(BATCH) if BATCH in declared else None
    time = declared.index(TIME) if TIME in declared else None
    numbers = {axis: word for axis, word in enumerate(declared) if isinstance(word, int)}
    tensor = tensor.with_sizes(numbers)
    many = batch is not None and isinstance(tensor.sizes[batch], str)
    if not one_row and not many:
        return
    dropped = []
    if batch is not None and one_row:
        tensor = tensor.with_sizes({batch: 1})
        dropped += [] if is_state else [batch]
        batch = None
    if time is not None and tensor.sizes[time] == 1:
        dropped.append(time)
        time = None
    yield TensorAxes(tensor, time, batch, tuple(sorted(dropped)))


def _named(tensor: GraphTensor, axis: int, names: frozenset[str]) -> bool:
    return str(tensor.sizes[axis]).lower() in names


def _consistent(choice: tuple[TensorAxes, ...], *, one_row: bool) -> bool:
    """Returns whether no size is time in one tensor and batch in another."""
    times = {axes.tensor.sizes[axes.time] for axes in choice if axes.time is not None}
    batches = {axes.tensor.sizes[axes.batch] for axes in choice if axes.batch is not None}
    return one_row or not times & batches
