"""Completes inputs with values of earlier steps in front: declared as context, or as the hop of windows.

The values in front are a state of the session. Errors name the entry, what was expected and what came.
"""

from dataclasses import replace

from statewise.service.engine import AxisLayout
from statewise.service.packages._axes import GraphValue, sizes_of
from statewise.wire import TIME, AxisWords, MetadataError, StatePair, TensorDeclaration, TensorSpec


def windowed(
    entry: TensorDeclaration, axes: AxisWords, value: GraphValue
) -> tuple[TensorDeclaration, AxisWords, int]:
    """Turns a hop into context: a window becomes one step, whose new values are the sample.

    Returns:
        The entry with its context, the axes with the window's size in place of time, and the axis along which
        values stand in front, from the end; -1 is the last one.
    """
    if entry.hop is None:
        return entry, axes, -1
    where = f"input {entry.name!r}: hop"
    if TIME in axes:
        axis = axes.index(TIME)
        size = value.dims[axis]
        if not isinstance(size, int):
            raise MetadataError(
                f"{where}: expected a time axis of fixed size, the window; the graph has {list(value.dims)}"
            )
        axes = (*axes[:axis], size, *axes[axis + 1 :])
    else:
        axis = len(axes) - 1
    window = axes[axis] if axes else 0
    if not isinstance(window, int) or entry.hop > window:
        raise MetadataError(f"{where}: expected 1 to the size of the window, {window}; got {entry.hop}")
    behind = sum(isinstance(later, int) for later in axes[axis:])
    return replace(entry, hop=None, context=window - entry.hop), axes, -behind


def check_context(tensor: AxisLayout, *, shared: bool) -> None:
    """Refuses context of an input that is shared by rows or steps, or that has nothing beside the context."""
    where, sizes = f"input {tensor.name!r}: context", sizes_of(tensor.axes)
    if shared or not tensor.per_step:
        raise MetadataError(
            f"{where}: expected 0 for an input that is the same for all rows or steps; got {tensor.context}"
        )
    if TIME not in tensor.axes and (not sizes or sizes[tensor.context_axis] <= tensor.context):
        raise MetadataError(
            f"{where}: expected less than the last axis of {list(tensor.axes)}; got {tensor.context}"
        )


def sample_shape(tensor: AxisLayout) -> tuple[int, ...]:
    """Returns the shape of one sample that callers send, without the context."""
    shape = sizes_of(tensor.axes)
    if tensor.context and TIME not in tensor.axes:
        return _with_size(shape, tensor.context_axis, shape[tensor.context_axis] - tensor.context)
    return shape


def context_pair(tensor: AxisLayout, entry: TensorSpec) -> StatePair:
    """Returns the state that holds an input's context."""
    if TIME in tensor.axes:
        shape = (tensor.context, *entry.shape)
    else:
        shape = _with_size(entry.shape, tensor.context_axis, tensor.context)
    name = f"{tensor.name}.context"
    return StatePair(name, name, entry.dtype, shape)


def _with_size(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    changed = list(shape)
    changed[axis] = size
    return tuple(changed)
