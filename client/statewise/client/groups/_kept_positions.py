"""Keeps the positions that the sessions of a group can be taken back to, in arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64, unpack_uint64


class KeptPositions:
    """Positions before the last requests of each session, as many as it keeps.

    Args:
        sessions: as the server described them.
    """

    def __init__(self, sessions: Sequence[sequence_pb2.Session]) -> None:
        self.keeps = np.array([session.keep for session in sessions], np.uint32)
        """The number of last requests of each that can be taken back; 0: the server is older than that."""
        most = max(1, int(self.keeps.max()))
        self._positions = np.zeros((len(sessions), most), np.uint64)
        """[sessions, most], the latest last."""
        self._counts = np.zeros(len(sessions), np.uint32)
        for row, session in enumerate(sessions):
            self.set(row, unpack_uint64(session.kept_positions))

    def push(self, rows: NDArray[np.intp], positions: NDArray[np.uint64]) -> None:
        """Notes the positions from before a request of these sessions."""
        if self._positions.shape[1] == 1:
            self._positions[rows, 0] = positions
            self._counts[rows] = 1
            return
        kept = self._positions[rows]
        kept[:, :-1] = kept[:, 1:]
        kept[:, -1] = positions
        self._positions[rows] = kept
        self._counts[rows] = np.minimum(self._counts[rows] + 1, np.maximum(self.keeps[rows], 1))

    def set(self, row: int, positions: Sequence[int] | NDArray[np.uint64]) -> None:
        """Replaces what a session keeps, the earliest position first."""
        most = self._positions.shape[1]
        count = min(len(positions), most)
        self._positions[row, most - count :] = positions[len(positions) - count :]
        self._counts[row] = count

    def of(self, row: int) -> NDArray[np.uint64]:
        """Returns the positions that a session keeps, the earliest first."""
        most = self._positions.shape[1]
        kept: NDArray[np.uint64] = self._positions[row, most - int(self._counts[row]) :]
        return kept

    def packed(self, row: int) -> bytes:
        """Returns the same, as a column of the contract."""
        return pack_uint64(self.of(row))

    def latest(self, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
        """Returns the latest position that each of these sessions keeps; each must keep one."""
        latest: NDArray[np.uint64] = self._positions[rows, -1]
        return latest

    def none_among(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Returns which of these sessions keep none."""
        none: NDArray[np.bool_] = self._counts[rows] == 0
        return none

    def hold(self, rows: NDArray[np.intp], positions: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Returns which of these sessions keep a position each."""
        most = self._positions.shape[1]
        known = np.arange(most) >= most - self._counts[rows, None].astype(np.intp)
        held: NDArray[np.bool_] = ((self._positions[rows] == positions[:, None]) & known).any(axis=1)
        return held
