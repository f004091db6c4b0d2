"""Describes where batch and time lie in a graph's inputs, outputs and states, and how much one run takes.

Holds values only: the registry determines them, and adapters use them to run graphs. Exported graphs (time
first, batch next, state batch first, both of free size) need no layout.
"""

from dataclasses import dataclass

from statewise.wire import AxisWords


@dataclass(frozen=True, slots=True)
class AxisLayout:
    """One input, output or state of the graph.

    Attributes:
        name: Its name in the graph.
        axes: For each axis "batch", "time", or a size that belongs to one sample.
        per_step: One value for every time step, or one for the whole sequence.
        context: Of an input: how many earlier values stand in front of the new ones. They are time steps if
            the input has a time axis, else elements along `context_axis`.
        context_axis: An axis of one sample, from the end: -1 is the last one.
    """

    name: str
    axes: AxisWords
    per_step: bool = False
    context: int = 0
    context_axis: int = -1


@dataclass(frozen=True, slots=True)
class GraphLayout:
    """The axes of a graph, and the limits of a run.

    Attributes:
        inputs: In the spec's order.
        outputs: In the spec's order.
        state: Inputs of the state pairs, without those that hold context; the outputs have the same axes.
        successors: Names of the state outputs, in the order of `state`.
        lengths: Name and type of the input with each row's number of time steps; None: no such input.
        one_row: A run takes a single row.
        one_step: A run takes a single time step.
    """

    inputs: tuple[AxisLayout, ...]
    outputs: tuple[AxisLayout, ...]
    state: tuple[AxisLayout, ...]
    successors: tuple[str, ...]
    lengths: tuple[str, str] | None
    one_row: bool
    one_step: bool
