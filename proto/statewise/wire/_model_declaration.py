"""Reads model.toml: the entries of `ModelSpec` and the axes of batch and time, each optional.

A declaration may be incomplete: the graph or its metadata has the entries that are left out, and the server
combines the three. Everything that `ModelSpec.to_toml` writes is a declaration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from statewise.wire._entries import MetadataError, read_entry
from statewise.wire._specs import CallShape, EncodeSpec, GenerateSpec, StatePart, Vocabulary
from statewise.wire._toml import place_in_toml, read_toml

BATCH, TIME = "batch", "time"
"""The words among the axes of a tensor; its other axes are sizes."""

AxisWords = tuple[str | int, ...]


class Sharing(StrEnum):
    """The load-time classes of a model that let rows of different sessions share a run."""

    EXACT = "exact"
    """Only exact: the same bits."""
    TOLERANCE = "tolerance"
    """Also tolerance: the same within rounding. Answers then depend on the rows that share the run."""


@dataclass(frozen=True)
class TensorDeclaration:
    """One input or output. None: the graph or its metadata decides."""

    name: str
    axes: AxisWords | None = None
    """The axes in the graph: "batch", "time", or the size of an axis that is part of one sample."""
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    """As of `TensorSpec`: the axes that are neither batch nor time."""
    per_step: bool | None = None
    default: float | None = None
    vocabulary_size: int | None = None
    context: int = 0
    """Number of preceding values that the server keeps and puts in front: time steps where the tensor has a
    time axis, else elements of its last axis. They begin as zeros."""
    hop: int | None = None
    """Of a graph that reads windows which overlap: how many new values a window has, along the time axis of
    fixed size, else along the last axis. A step is these values; the server keeps those before them."""


@dataclass(frozen=True)
class StateDeclaration:
    """A state input and the output that succeeds it. None: the graph or its metadata decides."""

    input: str
    output: str
    axes: AxisWords | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    batch_axis: int | None = None
    """As of `StatePair`: an alternative to `axes`, beside `shape`."""
    initial: float | tuple[float, ...] | str | None = None
    """One value for all elements, or one for each element, in C order; model.toml may nest the lists. A text
    names an .npy file in the version's folder, with an array of the state's shape."""
    parts: tuple[StatePart, ...] = ()


@dataclass(frozen=True)
class ModelDeclaration:
    """A model.toml. None and empty: the file has no such entry."""

    inputs: tuple[TensorDeclaration, ...] = ()
    outputs: tuple[TensorDeclaration, ...] = ()
    state: tuple[StateDeclaration, ...] = ()
    call_shapes: tuple[CallShape, ...] = ()
    lengths: str | None = None
    labels: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    encode: EncodeSpec | None = None
    generate: GenerateSpec | None = None
    least_steps: int = 1
    """As of `ModelSpec`."""
    stepwise: bool = False
    """Sessions are wanted although steps give other numbers than the whole sequence."""
    batch: Sharing = Sharing.EXACT
    notes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Reads a model.toml.

        Raises:
            MetadataError: naming the entry, what was expected, what was found, and the line.
        """
        try:
            raw = read_toml(text)
        except ValueError as error:
            raise MetadataError(f"no TOML: {error}") from None
        try:
            return cls._read(raw)
        except MetadataError as error:
            entry = str(error).partition(": ")[0]
            raise MetadataError(f"{error}{place_in_toml(text, entry)}") from None

    @classmethod
    def _read(cls, raw: dict[str, Any]) -> Self:
        _flatten_initial_states(raw)
        declaration: Self = read_entry(cls, raw, "")
        if declaration.least_steps < 1:
            raise MetadataError(f"least_steps: expected at least 1; got {declaration.least_steps}")
        for kind, entries in (("inputs", declaration.inputs), ("outputs", declaration.outputs)):
            _check_tensors(kind, entries)
        for number, pair in enumerate(declaration.state):
            _check_axes(f"state[{number}]", pair.axes)
        return declaration


def _flatten_initial_states(raw: Any) -> None:
    """Replaces nested lists under `initial` by flat ones, where they are even."""
    states = raw.get("state")
    for number, state in enumerate(states if isinstance(states, list) else ()):
        initial = state.get("initial") if isinstance(state, dict) else None
        if isinstance(initial, list) and any(isinstance(row, list) for row in initial):
            state["initial"] = _flat(f"state[{number}].initial", initial)


def _flat(where: str, rows: list[Any]) -> list[Any]:
    """Returns the numbers of evenly nested lists, in C order."""
    while any(isinstance(row, list) for row in rows):
        if len({len(row) if isinstance(row, list) else None for row in rows}) > 1:
            raise MetadataError(f"{where}: expected rows of one length")
        rows = [number for row in rows for number in row]
    return rows


def _check_tensors(kind: str, entries: tuple[TensorDeclaration, ...]) -> None:
    for number, entry in enumerate(entries):
        where = f"{kind}[{number}]"
        _check_axes(where, entry.axes)
        if any(entry.name == other.name for other in entries[:number]):
            raise MetadataError(f"{where}.name: expected a name once; got {entry.name!r} again")
        if entry.context < 0:
            raise MetadataError(f"{where}.context: expected at least 0; got {entry.context}")
        if entry.hop is not None and entry.hop < 1:
            raise MetadataError(f"{where}.hop: expected at least 1; got {entry.hop}")
        if entry.hop is not None and entry.context:
            raise MetadataError(f"{where}.hop: expected none beside context, which follows from it")
        for name, value in (("context", entry.context), ("hop", entry.hop)):
            if value and kind == "outputs":
                raise MetadataError(f"{where}.{name}: expected none for an output; got {value}")


def _check_axes(where: str, axes: AxisWords | None) -> None:
    words = [axis for axis in axes or () if isinstance(axis, str)]
    sizes: list[Any] = [axis for axis in axes or () if not isinstance(axis, str)]
    wrong = [word for word in words if word not in (BATCH, TIME)] + [size for size in sizes if size < 1]
    if wrong:
        raise MetadataError(f'{where}.axes: expected "batch", "time" or a positive size; got {wrong[0]!r}')
    if len(set(words)) != len(words):
        raise MetadataError(f"{where}.axes: expected batch and time once at most; got {list(axes or ())}")
