"""Recurrent networks in NumPy: cells, training, data sets, recipes.

No serving and no ONNX. Nothing runs at import, nothing here keeps the state of a sequence.
"""

from ._checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ._errors import CheckpointError, ModelsError, RecipeError, TrainingDiverged
from ._fit import Progress
from ._network import Network
from ._normalisation import Normalisation
from ._recipe import Recipe, load_recipe, recipe_names
from ._spec import NetworkSpec
from ._train import TrainResult, train
from .datasets import Dataset, load_dataset

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Dataset",
    "ModelsError",
    "Network",
    "NetworkSpec",
    "Normalisation",
    "Progress",
    "Recipe",
    "RecipeError",
    "TrainResult",
    "TrainingDiverged",
    "load_checkpoint",
    "load_dataset",
    "load_recipe",
    "recipe_names",
    "save_checkpoint",
    "train",
]
