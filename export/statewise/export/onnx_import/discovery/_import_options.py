"""Holds what the user says about a foreign graph; everything is optional."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from statewise.export.base import Array
from statewise.wire import AxisWords


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about a graph.

    Attributes:
        state: Names of state outputs by those of state inputs.
        inputs: Names of inputs that are data, not state.
        outputs: Names of the outputs to publish; empty: all that are no state.
        constants: Values of inputs that are the same for every row, step and session.
        sizes: Numbers for free sizes, by the name of the size, or by INPUT.AXIS.
        axes: For an input, output or state: "batch", "time" or a size for each axis.
        initial: Initial states by the names of state inputs: a number, or an array of the state's shape.
        hops: For inputs that are windows which overlap: how many values of a window are new.
        contexts: For inputs whose first values are earlier ones: how many.
        expose_state: Whether recurrent operators without state inputs and outputs get them.
        stateless: Whether the package offers Predict only.
    """

    state: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    constants: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    axes: Mapping[str, AxisWords] = field(default_factory=dict)
    initial: Mapping[str, float | Array] = field(default_factory=dict)
    hops: Mapping[str, int] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)
    expose_state: bool = False
    stateless: bool = False
