"""Recurrent networks in NumPy: cells, training, data sets, recipes.

No serving and no ONNX. Nothing runs at import, nothing here keeps the state of a sequence.
"""

from ._errors import CheckpointError, ModelsError, RecipeError, TrainingDiverged
from ._network import Network
from ._spec import NetworkSpec
from .datasets import Dataset, load_dataset

__all__ = [
    "CheckpointError",
    "Dataset",
    "ModelsError",
    "Network",
    "NetworkSpec",
    "RecipeError",
    "TrainingDiverged",
    "load_dataset",
]
