"""Holds graphs as other tools export them, each with its model.toml; holds no model of the exporter."""

from collections.abc import Callable

from tests.helpers.models.foreign.layouts import one_row_with_a_rate, ring_buffer, several, shared_rate
from tests.helpers.models.foreign.model import ForeignModel
from tests.helpers.models.foreign.recurrent import half_precision, lstm, lstm_with_lengths, two_kinds
from tests.helpers.models.foreign.windows import (
    convolution,
    frame_with_context,
    overlapping_windows,
    window,
)

__all__ = ["MODELS", "ForeignModel", "lstm", "one_row_with_a_rate", "shared_rate"]

MODELS: dict[str, Callable[[], ForeignModel]] = {
    "lstm": lstm,
    "lengths": lstm_with_lengths,
    "two_kinds": two_kinds,
    "one_row": one_row_with_a_rate,
    "ring_buffer": ring_buffer,
    "half": half_precision,
    "several": several,
    "window": window,
    "overlapping": overlapping_windows,
    "frame": frame_with_context,
    "convolution": convolution,
}
