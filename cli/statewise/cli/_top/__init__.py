"""Holds `statewise top`: turns the server's reports into rates and a table.

Never holds counters: the server counts.
"""

from statewise.cli._top._activity import Activity, ModelActivity, activity, screen
from statewise.cli._top._command import top

__all__ = ["Activity", "ModelActivity", "activity", "screen", "top"]
