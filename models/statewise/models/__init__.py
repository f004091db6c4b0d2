"""Recurrent networks in NumPy: cells, training, data sets, recipes.

No serving and no ONNX. Nothing runs at import, nothing here keeps the state of a sequence.
"""

from ._checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ._errors import CheckpointError, ModelsError, RecipeError, TrainingDiverged
from ._fit import Progress
from ._generate import Generated, draw_tokens, generate_tokens, generate_values, uniform_numbers
from ._layers import Dropout
from ._losses import binary_cross_entropy, cross_entropy, squared_error
from ._network import Network
from ._normalisation import Normalisation
from ._optimisers import SGD, AdamW, clip_by_norm
from ._parameters import Parameters
from ._recipe import Recipe, load_recipe, recipe_names
from ._schedules import learning_rate_factor
from ._spec import NetworkSpec
from ._threads import blas_threads
from ._train import TrainResult, train
from ._workspace import Workspace
from .datasets import Dataset, load_dataset

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
