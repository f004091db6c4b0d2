"""Operates groups of sessions, with arrays in place of objects: turns, requests, journal; never opens one."""

from statewise.client.groups._group_core import GroupCore
from statewise.client.groups._group_journal import GroupJournal
from statewise.client.groups._group_states import (
    checkpoint_of_rows,
    checkpoints_of_rows,
    delete_checkpoint_of_rows,
    rewind_rows,
    set_states_of_rows,
    states_of_rows,
)
from statewise.client.groups._remote_rows import RemoteRows

__all__ = [
    "GroupCore",
    "GroupJournal",
    "RemoteRows",
    "checkpoint_of_rows",
    "checkpoints_of_rows",
    "delete_checkpoint_of_rows",
    "rewind_rows",
    "set_states_of_rows",
    "states_of_rows",
]
