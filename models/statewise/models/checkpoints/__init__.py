"""Stores trained networks in folders and reads them back; never trains."""

from statewise.models.checkpoints._checkpoint import Checkpoint
from statewise.models.checkpoints._folder import (
    ARRAYS,
    METRICS,
    load_checkpoint,
    replace_file,
    save_checkpoint,
)

__all__ = ["ARRAYS", "METRICS", "Checkpoint", "load_checkpoint", "replace_file", "save_checkpoint"]
