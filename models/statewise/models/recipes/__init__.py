"""Reads recipes, the TOML files that say what to train and how; the bundled ones lie here; runs nothing."""

from statewise.models.recipes._recipe import Recipe, load_recipe, recipe_names
from statewise.models.recipes._settings import TrainSettings

__all__ = ["Recipe", "TrainSettings", "load_recipe", "recipe_names"]
