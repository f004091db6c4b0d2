"""Tasks: what a recipe's data and settings become for the training loop."""

from __future__ import annotations

from .._recipe import Recipe
from ..datasets import BUNDLED, Dataset, LabelledSequences, Pairs, Series, Words, load_dataset
from ._classify import Classification, classification, shuffled_in_time
from ._forecast import Forecast, forecast
from ._language import Language, language
from ._problem import Batch, Part, Problem
from ._transduce import Transduction, transduction

__all__ = [
    "Batch",
    "Classification",
    "Forecast",
    "Language",
    "Part",
    "Problem",
    "Transduction",
    "classification",
    "forecast",
    "language",
    "make_problem",
    "recipe_data",
    "shuffled_in_time",
    "transduction",
]


def recipe_data(recipe: Recipe) -> Dataset:
    """The data that a recipe names.

    Raises:
        RecipeError: There is none, or it cannot be read.
    """
    if recipe.data.source in BUNDLED:
        return load_dataset(recipe.data.source)
    raise recipe.error("data.source", f"expected one of {', '.join(BUNDLED)}")


def make_problem(recipe: Recipe, data: Dataset) -> Problem:
    """The problem that a recipe sets.

    Raises:
        RecipeError: Task, settings and data do not fit together.
    """
    match recipe.task, data:
        case "classify", LabelledSequences():
            return classification(recipe, data)
        case "forecast", Series():
            return forecast(recipe, data)
        case "language", Words():
            return language(recipe, data)
        case "transduce", Pairs():
            return transduction(recipe, data)
        case _:
            raise recipe.error("task", f"does not fit {recipe.data.source}, which is {type(data).__name__}")
