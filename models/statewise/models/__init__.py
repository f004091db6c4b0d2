"""Recurrent networks in NumPy: cells, training, data sets, recipes.

No serving and no ONNX. Nothing runs at import, nothing here keeps the state of a sequence.
"""

from statewise.models._checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from statewise.models._errors import CheckpointError, ModelsError, RecipeError, TrainingDiverged
from statewise.models._fit import Progress
from statewise.models._generate import (
    Generated,
    draw_tokens,
    generate_tokens,
    generate_values,
    uniform_numbers,
)
from statewise.models._layers import Dropout
from statewise.models._losses import binary_cross_entropy, cross_entropy, squared_error
from statewise.models._network import Network
from statewise.models._normalisation import Normalisation
from statewise.models._optimisers import SGD, AdamW, clip_by_norm
from statewise.models._parameters import Parameters
from statewise.models._recipe import Recipe, load_recipe, recipe_names
from statewise.models._schedules import learning_rate_factor
from statewise.models._spec import NetworkSpec
from statewise.models._threads import blas_threads
from statewise.models._train import TrainResult, train
from statewise.models._workspace import Workspace
from statewise.models.datasets import Dataset, load_dataset

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
