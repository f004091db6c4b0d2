"""Trains and runs recurrent networks in NumPy: cells, networks, data sets, recipes; no serving, no ONNX.

Importing runs nothing, and no object keeps a sequence's state.
"""

from statewise.models.base import (
    CheckpointError,
    ModelsError,
    RecipeError,
    RunExists,
    TrainingDiverged,
    Workspace,
    blas_threads,
)
from statewise.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from statewise.models.datasets import Dataset, load_dataset
from statewise.models.generation import (
    Generated,
    draw_tokens,
    generate_tokens,
    generate_values,
    uniform_numbers,
)
from statewise.models.networks import (
    Dropout,
    Network,
    NetworkSpec,
    Normalisation,
    Parameters,
    binary_cross_entropy,
    cross_entropy,
    squared_error,
)
from statewise.models.optimisation import SGD, AdamW, clip_by_norm, learning_rate_factor
from statewise.models.recipes import Recipe, load_recipe, recipe_names
from statewise.models.training import Progress, TrainResult, train

__all__ = [
    "SGD",
    "AdamW",
    "Checkpoint",
    "CheckpointError",
    "Dataset",
    "Dropout",
    "Generated",
    "ModelsError",
    "Network",
    "NetworkSpec",
    "Normalisation",
    "Parameters",
    "Progress",
    "Recipe",
    "RecipeError",
    "RunExists",
    "TrainResult",
    "TrainingDiverged",
    "Workspace",
    "binary_cross_entropy",
    "blas_threads",
    "clip_by_norm",
    "cross_entropy",
    "draw_tokens",
    "generate_tokens",
    "generate_values",
    "learning_rate_factor",
    "load_checkpoint",
    "load_dataset",
    "load_recipe",
    "recipe_names",
    "save_checkpoint",
    "squared_error",
    "train",
    "uniform_numbers",
]
