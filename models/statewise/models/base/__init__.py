"""Holds what all other folders share: array types, errors, scratch memory, BLAS threads; knows no network."""

from statewise.models.base._errors import (
    CheckpointError,
    ModelsError,
    RecipeError,
    RunExists,
    TrainingDiverged,
)
from statewise.models.base._threads import blas_threads
from statewise.models.base._types import Array, Floats, Integers
from statewise.models.base._workspace import Workspace

__all__ = [
    "Array",
    "CheckpointError",
    "Floats",
    "Integers",
    "ModelsError",
    "RecipeError",
    "RunExists",
    "TrainingDiverged",
    "Workspace",
    "blas_threads",
]
