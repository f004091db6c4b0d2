"""Reads, writes and keeps the states of single sessions; never steps one."""

from statewise.client.states._state_operations import (
    checkpoint_of,
    checkpoints_of,
    delete_checkpoint_of,
    rewind_of,
    set_state_of,
    state_of,
)
from statewise.client.states._state_requests import (
    create_checkpoint,
    delete_checkpoint,
    list_checkpoints,
    read_state,
)

__all__ = [
    "checkpoint_of",
    "checkpoints_of",
    "create_checkpoint",
    "delete_checkpoint",
    "delete_checkpoint_of",
    "list_checkpoints",
    "read_state",
    "rewind_of",
    "set_state_of",
    "state_of",
]
