"""Defines the tasks that networks learn: batches, losses and measures; never updates a parameter."""

from statewise.models.problems._classify import Classification, classification, shuffled_in_time
from statewise.models.problems._forecast import Forecast, forecast
from statewise.models.problems._from_recipe import make_problem, recipe_data
from statewise.models.problems._language import Language, language
from statewise.models.problems._problem import Batch, Part, Problem
from statewise.models.problems._transduce import Transduction, transduction

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
