"""Chooses a cell by the name that network specs use."""

from __future__ import annotations

from statewise.models.cells._cell import Cell
from statewise.models.cells._gru import GRU
from statewise.models.cells._lstm import LSTM
from statewise.models.cells._rnn import RNN


def make_cell(name: str, *, activation: str = "tanh", reset_after: bool = False) -> Cell:
    """Creates the cell with that name.

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
