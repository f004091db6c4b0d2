"""Names the types of arrays and keys that the service passes around, and the limits that handles set."""

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
