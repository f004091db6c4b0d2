"""Reads recipes: TOML files that say what to train, on which data, and how.

It loads no data and runs nothing. A recipe that loads has only known keys, with values of the right type and
range; otherwise a RecipeError names file, key and value in one line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from statewise.models.base import RecipeError
from statewise.models.recipes._settings import (
    RANGES,
    WITHOUT_EFFECT,
    DataSettings,
    NetworkSettings,
    TrainSettings,
)

TaskName = Literal["classify", "forecast", "language", "transduce"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, on which data, and how.

    Attributes:
        name: Name of the recipe; an exported model gets the same name by default.
        task: classify (a label a sequence), forecast (the next step of a series), language (the next
            character of a word) or transduce (a sequence for a sequence, by encoder and decoder).
        data: The `[data]` table.
        network: The `[network]` table.
        train: The `[train]` table.
        source: The file, for messages.
    """

    name: str
    task: TaskName
    data: DataSettings
    network: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    source: str = "recipe"

    def error(self, key: str, problem: str) -> RecipeError:
        """Returns an error about one key of this recipe, such as `train.window`."""
        value: Any = self
        for part in key.split("."):
            value = getattr(value, part)
        return RecipeError(self.source, problem, key=key, value=value)

    def with_seed(self, seed: int | None) -> Recipe:
        """This recipe with another seed; None keeps its own."""
        return self if seed is None else replace(self, train=replace(self.train, seed=seed))

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as plain JSON values, without its source."""
        values = asdict(self)
        del values["source"]
        values["data"]["columns"] = list(self.data.columns)
        return values


def recipe_names() -> tuple[str, ...]:
    """Returns the names of the bundled recipes, sorted."""
    return tuple(sorted(entry.name[:-5] for entry in _bundled().iterdir() if entry.name.endswith(".toml")))


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe.

    Args:
        name_or_path: A bundled recipe's name, or a TOML file.
        overrides: Values by dotted key, such as {"train.epochs": 3}. A string is read as a TOML value
            if it is one ("3", "true", "[1, 2]"), else as text.

    Raises:
        RecipeError: The recipe does not exist or is not TOML, or a key is unknown, or a value has the wrong
            type or range.
    """
    source, text = _read(name_or_path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(source, f"not TOML: {error}") from None
    for key, value in (overrides or {}).items():
        _override(values, key, value, source)
    values.setdefault("name", Path(source).stem)
    return recipe_of(values, source)


def recipe_of(values: Mapping[str, Any], source: str) -> Recipe:
    """Returns the recipe of plain values, as `Recipe.to_dict` makes them.

    Args:
        values: Values of the recipe.
        source: The file, for messages; data is looked for beside it.

    Raises:
        RecipeError: A key is unknown, or a value has the wrong type or range.
    """
    recipe: Recipe = _build(Recipe, {**values, "source": source}, source, "")
    _check_together(recipe)
    return recipe


def _check_together(recipe: Recipe) -> None:
    """Raises an error for keys that would have no effect."""
    for key in WITHOUT_EFFECT[recipe.task]:
        table, name = key.split(".")
        settings = getattr(recipe, table)
        default = next(item.default for item in fields(settings) if item.name == name)
        if getattr(settings, name) != default:
            raise recipe.error(key, f"has no effect on a recipe with task = {recipe.task}")
    train = recipe.train
    if train.patience and not recipe.data.validation_fraction:
        raise recipe.error("train.patience", "needs data.validation_fraction above 0")
    if recipe.network.reset_after and recipe.network.cell != "gru":
        raise recipe.error(
            "network.reset_after", f"has no effect on {recipe.network.cell}; expected gru with it"
        )
    if recipe.network.activation == "relu" and recipe.network.cell != "rnn":
        raise recipe.error("network.activation", "expected tanh or sigmoid; relu is for the rnn cell")


def _bundled() -> Traversable:
    return files("statewise.models") / "recipes"


def _read(name_or_path: str | Path) -> tuple[str, str]:
    name = str(name_or_path)
    if name in recipe_names():
        return f"{name}.toml", (_bundled() / f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name_or_path)
    try:
        return str(path), path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise RecipeError(
            path, f"{reason}; expected a TOML file or one of {', '.join(recipe_names())}"
        ) from None


def _override(values: dict[str, Any], key: str, value: Any, source: str) -> None:
    if isinstance(value, str):
        with suppress(tomllib.TOMLDecodeError):
            value = tomllib.loads(f"value = {value}")["value"]
    *tables, last = key.split(".")
    table = values
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(source, "unknown key", key=key, value=value)
    table[last] = value


def _build(kind: Any, values: Mapping[str, Any], source: str, prefix: str) -> Any:
    """Builds a settings dataclass from a table, checking every key."""
    hints = get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    for key, value in values.items():
        if key not in known:
            hint = ", ".join(name for name in known if name != "source" or prefix)
            raise RecipeError(source, f"unknown key; expected one of {hint}", key=prefix + key, value=value)
    built = {key: _checked(hints[key], value, source, prefix + key) for key, value in values.items()}
    try:
        return kind(**built)
    except TypeError:
        missing = next(item.name for item in fields(kind) if item.name not in values and _required(item))
        raise RecipeError(source, f"missing key {prefix + missing}") from None


def _checked(hint: Any, value: Any, source: str, key: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise RecipeError(source, "expected a table", key=key, value=value)
        return _build(hint, value, source, key + ".")
    allowed = _choices(hint)
    if allowed:
        if value not in allowed:
            raise RecipeError(source, f"expected one of {', '.join(allowed)}", key=key, value=value)
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RecipeError(source, "expected a list of strings", key=key, value=value)
        return tuple(value)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
        raise RecipeError(source, f"expected {names[hint]}", key=key, value=value)
    if key in RANGES:
        low, high = RANGES[key]
        if not low <= value <= high:
            raise RecipeError(source, f"expected {_plain(low)} to {_plain(high)}", key=key, value=value)
    return value


def _plain(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _choices(hint: Any) -> tuple[str, ...]:
    """Returns the strings of a Literal, or of a union of Literals; empty for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(choice for part in get_args(hint) for choice in _choices(part))


def _required(item: Any) -> bool:
    return item.default is MISSING and item.default_factory is MISSING
