"""Describes states as values: those of a model, the checkpoints of a session, the states of many sessions.

The values hold no messages.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from numpy.typing import NDArray

from statewise.v1 import model_pb2, sequence_pb2, tensor_pb2
from statewise.wire import StatePart


@dataclass(frozen=True)
class StateInfo:
    """One state of a model: what a session keeps from step to step."""

    name: str
    dtype: str
    """NumPy's name: "float32", "int64"."""
    shape: tuple[int, ...]
    """Of one session's state."""
    parts: tuple[StatePart, ...] = ()
    """Its named sections, such as `layer0.h`: `name`, `offset` and `size`, counted in elements in C order."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class CheckpointInfo:
    """Describes a checkpoint: a state of a session, kept under a name on the server. It never changes.

    `origin` names the session in which it was made, `position` tells where, and `made_at` when, in UTC.
    """

    name: str
    position: int
    """Time steps that the state has consumed."""
    origin: str
    """Id of the session that it was made in; another one than it belongs to where a snapshot brought it."""
    made_at: datetime
    size_bytes: int
    """Bytes that it takes on the server, and in a snapshot that carries it."""


@dataclass(frozen=True, eq=False)
class States:
    """The states of many sessions of one model version, a row each.

    `ids` and `positions` describe the rows of `matrix`, `columns` names its columns.

    Example:
        >>> pandas.DataFrame(states.matrix, index=states.ids, columns=states.columns)
    """

    model: str
    version: int
    ids: tuple[str, ...]
    """The sessions' names, [N]."""
    positions: NDArray[Any]
    """Time steps that each has consumed, [N]."""
    matrix: NDArray[Any]
    """[N, S]: the elements of all states of the model, one after another."""
    columns: tuple[str, ...]
    """Names of the columns, [S]: `layer0.h[3]` is element 3 of the part `layer0.h`."""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        sessions = "1 session" if len(self) == 1 else f"{len(self):,} sessions"
        shape = f"{self.matrix.dtype.name} {list(self.matrix.shape)}"
        return f"<States of {sessions} of {self.model}/{self.version}, {shape}>"


def read_state_spec(spec: model_pb2.StateSpec) -> StateInfo:
    """Reads the description of one state."""
    return StateInfo(
        name=spec.name,
        dtype=tensor_pb2.DataType.Name(spec.dtype).removeprefix("DATA_TYPE_").lower(),
        shape=tuple(spec.shape),
        parts=tuple(StatePart(part.name, part.offset, part.size) for part in spec.parts),
    )


def read_checkpoint(checkpoint: sequence_pb2.Checkpoint) -> CheckpointInfo:
    """Reads the description of a checkpoint."""
    return CheckpointInfo(
        name=checkpoint.name,
        position=checkpoint.position,
        origin=checkpoint.origin,
        made_at=checkpoint.made_at.ToDatetime(tzinfo=UTC),
        size_bytes=checkpoint.size_bytes,
    )


def sections_of(states: Sequence[StateInfo]) -> dict[str, tuple[StatePart, ...]]:
    """Returns the sections of each state by which it is read: its parts, where they hold every element once
    and are named like nothing else; else one section, which is the state itself.
    """
    names = Counter(part.name for state in states for part in state.parts)
    names.update(state.name for state in states)
    return {state.name: _sections(state, names) for state in states}


def column_names(states: Sequence[StateInfo]) -> tuple[str, ...]:
    """Names the elements of all states, one after another: by section and number."""
    return tuple(
        f"{section.name}[{number}]"
        for sections in sections_of(states).values()
        for section in sorted(sections, key=lambda section: section.offset)
        for number in range(section.size)
    )


def _sections(state: StateInfo, names: Counter[str]) -> tuple[StatePart, ...]:
    end = 0
    for part in sorted(state.parts, key=lambda part: part.offset):
        if part.offset != end or names[part.name] > 1:
            end = 0
            break
        end += part.size
    whole = bool(state.parts) and end == state.size
    return state.parts if whole else (StatePart(state.name, 0, state.size),)
