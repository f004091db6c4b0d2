"""Holds `statewise score` and its files: the log that lets an interrupted run continue, and output formats.

Never holds inference: `Client.score` runs the sequences.
"""

from statewise.cli._score._command import score
from statewise.cli._score._log import LogError, ResultLog
from statewise.cli._score._output import Format, format_of

__all__ = ["Format", "LogError", "ResultLog", "format_of", "score"]
