"""Describes what one tick writes to a store: columns of the sessions that changed, and their states.

A block is made of arrays, not of an object a session: the gathering copies columns, and a store writes the
bytes of the columns one after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import StoredCheckpoint

ROW = np.dtype(
    [
        ("birth", "<u8"),
        ("handle", "<u8"),
        ("holder", "<u8"),
        ("position", "<u8"),
        ("previous_position", "<u8"),
        ("digest", "<u8"),
        ("used_ms", "<u8"),
        ("epoch", "<u4"),
        ("flags", "<u4"),
    ]
)
"""One changed session.

`birth` is the session's key: a random number that no other session has, of this id or of another. `used_ms`
is the time of the last request, in milliseconds since 1970. `flags` bit 0 is the parity of the state arrays:
which of the two copies is the current one; bits 1 and 2 are the durability that the session was opened with;
bits 3 to 7, and 31, are how many of its last requests can be taken back, less 1; bits 8 to 30 are how often
it was resumed and rewound since its claim."""


def bytes_in_store(state_bytes: int) -> int:
    """Returns what a session counts for in a store, given the bytes of its states."""
    return ROW.itemsize + state_bytes


@dataclass(frozen=True, slots=True)
class Name:
    """Under which name a birth is known; written once, with the first row of the session.

    Attributes:
        birth: The session.
        owner: Name of its owner.
        session_id: The owner's name for the session.
    """

    birth: int
    owner: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Group:
    """Changed sessions of one model version that keep equally many requests.

    Attributes:
        model: Name of the model.
        version: Number of the version.
        digest: Digest of the version, 64 hexadecimal digits.
        rows: One `ROW` a session, no birth twice.
        states: uint8 [len(rows), bytes of a session]: both copies of each state, as in the arena; where the
            sessions keep more than one request, then the positions and states of their rings.
    """

    model: str
    version: int
    digest: str
    rows: NDArray[np.void]
    states: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Block:
    """What a tick writes, whole or not at all.

    Attributes:
        names: Of the sessions that the store does not know yet.
        groups: The changed sessions.
        ended: Births of sessions that have been closed or have expired.
        checkpoints: Named checkpoints that the store does not know yet, each written once. Those of a birth
            whose row is left out, or that has ended, are left out, too.
        dropped: Birth and name of checkpoints that are kept no longer; they go before `checkpoints` come.
    """

    names: Sequence[Name] = ()
    groups: Sequence[Group] = ()
    ended: Sequence[int] = ()
    checkpoints: Sequence[StoredCheckpoint] = ()
    dropped: Sequence[tuple[int, str]] = ()
