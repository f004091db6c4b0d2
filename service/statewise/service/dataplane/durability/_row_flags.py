"""Packs what a server keeps of a session in the flags of its stored row."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DURABILITY_BIT = 1
_KEEP_BIT, _KEEP_BITS = 3, 5
_KEEP_HIGH_BIT = 31
_CHANGES_BIT = 8
_MOST_CHANGES = 2**23 - 1


class RowFlags(NamedTuple):
    """Flags of a row.

    Attributes:
        parity: Which copy of the state is the current one.
        durability: The session's `Durability`.
        changes: Lower half of the epoch that callers see.
        keep: How many of the session's last requests can be taken back.
    """

    parity: int
    durability: int
    changes: int
    keep: int


def pack_flags(
    current_index: NDArray[np.intp], durabilities: NDArray[np.uint8], changes: NDArray[np.uint32], keep: int
) -> NDArray[np.uint32]:
    """Packs the flags of many rows.

    Args:
        current_index: Arena indices of the current copies; the lowest bit is the parity.
        durabilities: As numbers.
        changes: Lower halves of the epochs; what is above 23 bits counts as the most that fits.
        keep: How many requests each of the sessions keeps, 1 to 64.
    """
    flags = (current_index & 1).astype(np.uint32)
    flags |= durabilities.astype(np.uint32) << _DURABILITY_BIT
    flags |= np.minimum(changes, _MOST_CHANGES).astype(np.uint32) << _CHANGES_BIT
    high, low = divmod(keep - 1, 1 << _KEEP_BITS)
    return flags | np.uint32(low << _KEEP_BIT | high << _KEEP_HIGH_BIT)


def unpack_flags(flags: int) -> RowFlags:
    """Reads the flags of a row."""
    keep = 1 + (flags >> _KEEP_BIT & (1 << _KEEP_BITS) - 1) + (flags >> _KEEP_HIGH_BIT << _KEEP_BITS)
    return RowFlags(flags & 1, flags >> _DURABILITY_BIT & 3, flags >> _CHANGES_BIT & _MOST_CHANGES, keep)
