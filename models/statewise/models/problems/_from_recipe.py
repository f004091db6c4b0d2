"""Turns recipes into problems: reads the data a recipe names and builds the problem of its task."""

from __future__ import annotations

from pathlib import Path

from statewise.models.datasets import (
    BUNDLED,
    Dataset,
    LabelledSequences,
    Pairs,
    Series,
    Words,
    load_dataset,
    read_labelled,
    read_pairs,
    read_series,
    read_words,
)
from statewise.models.problems._classify import classification
from statewise.models.problems._forecast import forecast
from statewise.models.problems._language import language
from statewise.models.problems._problem import Problem
from statewise.models.problems._transduce import transduction
from statewise.models.recipes import Recipe


def recipe_data(recipe: Recipe) -> Dataset:
    """Loads or reads the data that a recipe names.

    Raises:
        RecipeError: The data does not exist or cannot be read.
    """
    if recipe.data.source in BUNDLED:
        return load_dataset(recipe.data.source)
    # Paths are relative to the recipe's folder; a bundled recipe's to the working directory.
    path = Path(recipe.source).parent / recipe.data.source
    if not path.is_file():
        raise recipe.error("data.source", f"expected a file or one of {', '.join(BUNDLED)}")
    data = recipe.data
    match recipe.task:
        case "classify":
            return read_labelled(
                path,
                label=data.label,
                sequence=data.sequence,
                columns=data.columns,
                test_fraction=data.test_fraction,
                seed=recipe.train.seed,
                time=data.time,
                missing=data.missing,
            )
        case "forecast":
            return read_series(
                path,
                columns=data.columns,
                test_fraction=data.test_fraction,
                time=data.time,
                missing=data.missing,
            )
        case "language":
            return read_words(path)
        case _:
            return read_pairs(path)


def make_problem(recipe: Recipe, data: Dataset) -> Problem:
    """Builds the problem of a recipe's task.

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
