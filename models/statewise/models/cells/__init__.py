"""Runs one recurrent layer in one direction over whole sequences; no stacking, no padding, no loss.

`equations` defines one step of each cell. RNN, LSTM and GRU compute the same for all steps, forward and
backward, and are written for speed. Arrays are [T, features, B]: a column is a sequence, and each gate of
a time step is one contiguous block.
"""

from statewise.models.cells._cell import Cell, Weights
from statewise.models.cells._gru import GRU
from statewise.models.cells._lstm import LSTM
from statewise.models.cells._rnn import RNN

__all__ = ["GRU", "LSTM", "RNN", "Cell", "Weights", "make_cell"]


def make_cell(name: str, *, activation: str = "tanh", reset_after: bool = False) -> Cell:
    """The cell that a network spec names.

    Raises:
        ValueError: No cell has that name.
    """
    match name:
        case "rnn":
            return RNN(activation)
        case "lstm":
            return LSTM(activation)
        case "gru":
            return GRU(activation, reset_after)
        case _:
            raise ValueError(f"cell: expected rnn, lstm or gru, got {name!r}")
