"""Data sets: the bundled ones, and the kinds that a user's own files are read into."""

from ._bundled import BUNDLED, load_dataset
from ._kinds import Dataset, LabelledSequences, Pairs, Series, Words

__all__ = ["BUNDLED", "Dataset", "LabelledSequences", "Pairs", "Series", "Words", "load_dataset"]
