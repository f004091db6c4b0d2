"""Runs one recurrent layer in one direction over whole sequences; never stacks, pads or knows a loss.

`equations` defines one step of each cell. RNN, LSTM and GRU compute the same for all steps, forward and
backward, and are written for speed. Arrays are [T, features, B]: a column is a sequence, and each gate of
a time step is one contiguous block.
"""

from statewise.models.cells._cell import Cell, Weights
from statewise.models.cells._factory import make_cell
from statewise.models.cells._gru import GRU
from statewise.models.cells._lstm import LSTM
from statewise.models.cells._rnn import RNN

__all__ = ["GRU", "LSTM", "RNN", "Cell", "Weights", "make_cell"]
