"""Checks which recipes load, and that each fault is named in one line."""

from pathlib import Path

import pytest

from statewise.models import RecipeError, load_recipe, recipe_names


def test_every_bundled_recipe_loads() -> None:
    assert {"gait", "vowels"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_overrides_are_read_as_toml() -> None:
    recipe = load_recipe(
        "vowels",
        {
            "train.epochs": "3",
            "train.learning_rate": 1,
            "network.cell": "gru",
            "network.bidirectional": "true",
        },
    )
    assert (recipe.train.epochs, recipe.train.learning_rate) == (3, 1.0)
    assert (recipe.network.cell, recipe.network.bidirectional) == ("gru", True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epoch", "3", "vowels.toml: train.epoch = 3: unknown key; expected one of "),
        ("trian.epochs", "3", "vowels.toml: trian = {'epochs': 3}: unknown key"),
        ("train.epochs", "many", "vowels.toml: train.epochs = 'many': expected a whole number"),
        ("train.epochs", "2.5", "vowels.toml: train.epochs = 2.5: expected a whole number"),
        ("train.epochs", "true", "vowels.toml: train.epochs = True: expected a whole number"),
        ("train.epochs", "0", "vowels.toml: train.epochs = 0: expected 1 to 1,073,741,824"),
        ("train.learning_rate", "nan", "vowels.toml: train.learning_rate = nan: expected 0 to 100"),
        ("train.dropout", "1", "vowels.toml: train.dropout = 1.0: expected 0 to 0.95"),
        ("network.cell", "transformer", "network.cell = 'transformer': expected one of rnn, lstm, gru"),
        ("task", "dream", "task = 'dream': expected one of classify, "),
        ("data", "3", "data = 3: expected a table"),
        ("data.columns", "3", "data.columns = 3: expected a list of strings"),
    ],
)
def test_bad_values_are_named_in_one_line(key: str, value: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("vowels", {key: value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('task = "forecast"\n[data]\nsource = "gait"\n[train]\nseed = 5\n')
    recipe = load_recipe(path)
    assert (recipe.name, recipe.train.seed, recipe.source) == ("mine", 5, str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task = ", "not TOML"),
        ('[data]\nsource = "gait"\n', "missing key task"),
        ('task = "classify"\n[data]\nlabel = "x"\n', "missing key data.source"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_recipe_lists_the_bundled_ones() -> None:
    with pytest.raises(RecipeError, match=r"gait.*vowels"):
        load_recipe("vovels")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("names", {"train.input_noise": "0.1"}, "train.input_noise = 0.1: has no effect"),
        ("vowels", {"train.window": "8"}, "train.window = 8: has no effect"),
        ("vowels", {"network.residual": "true"}, "network.residual = True: has no effect"),
        ("gait", {"train.patience": "3"}, "train.patience = 3: needs data.validation_fraction"),
        ("vowels", {"network.reset_after": "true"}, "network.reset_after = True: has no effect on lstm"),
        ("vowels", {"network.activation": "relu"}, "network.activation = 'relu': expected tanh or sigmoid"),
    ],
)
def test_keys_that_would_do_nothing_are_named(name: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides)
    assert message in str(caught.value)


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('\ufefftask = "forecast"\n[data]\nsource = "gait"\n')
    assert load_recipe(tmp_path / "mine.toml").data.source == "gait"
