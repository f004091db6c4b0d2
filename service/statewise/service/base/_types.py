"""Names the types of arrays, keys and values that the service passes around, and limits of numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""A tensor of any element type."""

Indices = NDArray[np.intp]
"""Indices of rows or elements."""

Handles = NDArray[np.uint64]
"""Handles of sessions, [rows]."""

Slots = NDArray[np.intp]
"""Rows of the session table, [rows]."""

Cells = NDArray[np.uint64]
"""Copies of sessions' records, [rows, 8]; only the session table knows what each column means."""

ModelKey = tuple[str, int]
"""Name and version of a model."""

SLOT_BITS = 24
"""The number of low bits of a handle that hold its slot."""

MAXIMUM_SESSIONS = 1 << SLOT_BITS
"""Sessions that one process can number."""

MOST_KEPT = 64
"""Requests of a session that can be taken back, at most."""

_CHECKPOINT_BYTES = 20
"""Of a checkpoint beside its state and names: position, time, and lengths of the names."""


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A state of a session that is kept under a name; it never changes.

    Attributes:
        birth: The session that it belongs to, and ends with.
        name: Its name, unique for its session: 1 to 128 bytes.
        position: Time steps that the state has consumed.
        made_ms: When it was made, in milliseconds since 1970.
        origin: Id of the session that it was made in.
        state: The arrays of the state, one after another, as in a snapshot.
    """

    birth: int
    name: str
    position: int
    made_ms: int
    origin: str
    state: bytes

    @property
    def size_bytes(self) -> int:
        """Bytes that it counts for in memory, in a store and in a token."""
        return _CHECKPOINT_BYTES + len(self.name.encode()) + len(self.origin.encode()) + len(self.state)
