"""Recurrent networks in NumPy: cells, training, data sets, recipes.

No serving and no ONNX. Nothing runs at import, nothing here keeps the state of a sequence.
"""

from statewise.models.base._errors import CheckpointError, ModelsError, RecipeError, TrainingDiverged
from statewise.models.base._threads import blas_threads
from statewise.models.base._workspace import Workspace
from statewise.models.checkpoints._checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from statewise.models.datasets import Dataset, load_dataset
from statewise.models.generation._generate import (
    Generated,
    draw_tokens,
    generate_tokens,
    generate_values,
    uniform_numbers,
)
from statewise.models.networks._layers import Dropout
from statewise.models.networks._losses import binary_cross_entropy, cross_entropy, squared_error
from statewise.models.networks._network import Network
from statewise.models.networks._normalisation import Normalisation
from statewise.models.networks._parameters import Parameters
from statewise.models.networks._spec import NetworkSpec
from statewise.models.optimisation._optimisers import SGD, AdamW, clip_by_norm
from statewise.models.optimisation._schedules import learning_rate_factor
from statewise.models.recipes._recipe import Recipe, load_recipe, recipe_names
from statewise.models.training._fit import Progress
from statewise.models.training._train import TrainResult, train

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
