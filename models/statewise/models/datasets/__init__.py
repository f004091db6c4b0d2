"""Loads bundled data sets and reads a user's own files; never normalises, pads or batches."""

from statewise.models.datasets._bundled import BUNDLED, load_dataset
from statewise.models.datasets._files import read_labelled, read_pairs, read_series, read_words
from statewise.models.datasets._held_out import held_out_count
from statewise.models.datasets._kinds import Dataset, LabelledSequences, Pairs, Series, Words
from statewise.models.datasets._missing import MissingRule

__all__ = [
    "BUNDLED",
    "Dataset",
    "LabelledSequences",
    "MissingRule",
    "Pairs",
    "Series",
    "Words",
    "held_out_count",
    "load_dataset",
    "read_labelled",
    "read_pairs",
    "read_series",
    "read_words",
]
