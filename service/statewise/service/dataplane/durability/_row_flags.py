"""Packs what a server keeps of a session in the flags of its stored row."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DURABILITY_BIT = 1
_CHANGES_BIT = 8
_MOST_CHANGES = 2**24 - 1


class RowFlags(NamedTuple):
    """Flags of a row.

    Attributes:
        parity: Which copy of the state is the current one.
        durability: The session's `Durability`.
        changes: Lower half of the epoch that callers see.
    """

    parity: int
    durability: int
    changes: int


def pack_flags(
    current_index: NDArray[np.intp], durabilities: NDArray[np.uint8], changes: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """Packs the flags of many rows.

    Args:
        current_index: Arena indices of the current copies; the lowest bit is the parity.
        durabilities: As numbers.
        changes: Lower halves of the epochs; what is above 24 bits counts as the most that fits.
    """
    flags = (current_index & 1).astype(np.uint32)
    flags |= durabilities.astype(np.uint32) << _DURABILITY_BIT
    flags |= np.minimum(changes, _MOST_CHANGES).astype(np.uint32) << _CHANGES_BIT
    return flags


def unpack_flags(flags: int) -> RowFlags:
    """Reads the flags of a row."""
    return RowFlags(flags & 1, flags >> _DURABILITY_BIT & 3, flags >> _CHANGES_BIT)
