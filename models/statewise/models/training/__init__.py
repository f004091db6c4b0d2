"""Trains networks by recipe: the loop over epochs, measuring, resuming; never defines a task or a cell."""

from statewise.models.training._fit import Progress, fit
from statewise.models.training._state import start
from statewise.models.training._train import TrainResult, train

__all__ = ["Progress", "TrainResult", "fit", "start", "train"]
