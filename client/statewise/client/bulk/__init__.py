"""Scores whole data sets: reads samples from files and memory, batches them, reports progress."""

from statewise.client.bulk._files import SampleFiles
from statewise.client.bulk._progress import Meter, Progress, Report, report_of
from statewise.client.bulk._samples import Item, Sample, SampleSource, Scored, open_source, sample_of
from statewise.client.bulk._score_batch import ScoreBatch
from statewise.client.bulk._score_plan import score_plan
from statewise.client.bulk._scoring import Outcome, Scoring

__all__ = [
    "Item",
    "Meter",
    "Outcome",
    "Progress",
    "Report",
    "Sample",
    "SampleFiles",
    "SampleSource",
    "ScoreBatch",
    "Scored",
    "Scoring",
    "open_source",
    "report_of",
    "sample_of",
    "score_plan",
]
