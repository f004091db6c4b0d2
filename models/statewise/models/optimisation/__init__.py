"""Turns gradients into updates of a parameter vector: optimisers, clipping, schedules; knows no network."""

from statewise.models.optimisation._optimisers import SGD, AdamW, Optimiser, OptimiserState, clip_by_norm
from statewise.models.optimisation._schedules import ScheduleName, learning_rate_factor

__all__ = [
    "SGD",
    "AdamW",
    "Optimiser",
    "OptimiserState",
    "ScheduleName",
    "clip_by_norm",
    "learning_rate_factor",
]
