"""Reads recipes, TOML files that say what to train and how, and holds the bundled ones; never trains."""

from statewise.models.recipes._recipe import Recipe, load_recipe, recipe_names, recipe_of
from statewise.models.recipes._settings import TrainSettings

__all__ = ["Recipe", "TrainSettings", "load_recipe", "recipe_names", "recipe_of"]
