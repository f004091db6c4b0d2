"""Checks the tasks: batches, encoder-decoder gradients, baselines, and splits that do not leak."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.models.differences import assert_gradients_agree, central_differences

from statewise.models import (
    AdamW,
    Network,
    Parameters,
    RecipeError,
    Workspace,
    load_checkpoint,
    load_dataset,
    load_recipe,
    train,
)
from statewise.models.datasets import Pairs, Series, Words
from statewise.models.problems import Batch, Part, forecast, language, transduction

PAIRS = Pairs(
    name="toy",
    sources=tuple(tuple(text) for text in ("ab", "abc", "b", "cab", "ba", "ca")),
    targets=tuple(tuple(text) for text in ("XY", "XYZ", "Y", "ZX", "YXX", "Z")),
)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_gradient_of_an_encoder_decoder(cell: str, bidirectional: bool, rng: np.random.Generator) -> None:
    overrides = {
        "network.cell": cell,
        "network.bidirectional": bidirectional,
        "network.hidden_size": 4,
        "network.embedding_size": 2,
        "data.test_count": 1,
    }
    problem = transduction(load_recipe("g2p", overrides), PAIRS)
    shapes = problem.spec.parameter_shapes()
    start = Network.initialise(problem.spec, rng=rng, dtype=np.float64)
    parameters = Parameters.of(shapes, start.parameters, np.float64)
    network, gradients, work = (
        Network(problem.spec, parameters),
        Parameters.empty(shapes, np.float64),
        Workspace(),
    )
    batch = next(iter(problem.batches(rng)))

    def loss() -> float:
        return problem.learn(network, batch, None, gradients, work, None)[0]

    loss()
    analytic = {"parameters": gradients.flat.copy()}
    assert_gradients_agree(analytic, {"parameters": central_differences(loss, parameters.flat)})


def pairs_of(batch: Batch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The source and the decoder's input of every row."""
    assert batch.source is not None
    assert batch.source_lengths is not None
    assert batch.lengths is not None
    return [
        (tuple(batch.source[:read, row]), tuple(batch.x[:written, row]))
        for row, (read, written) in enumerate(zip(batch.source_lengths, batch.lengths, strict=True))
    ]


def test_every_pair_is_seen_once_an_epoch(rng: np.random.Generator) -> None:
    problem = transduction(load_recipe("g2p", {"train.batch_size": 2, "data.test_count": 1}), PAIRS)
    batches = list(problem.batches(rng))
    assert len(batches) == problem.batch_count == 3
    seen = Counter(pair for batch in batches for pair in pairs_of(batch))
    assert set(seen.values()) == {1}
    assert sum(seen.values()) == 5


def test_an_encoder_decoder_learns_to_spell_backwards() -> None:
    rng = np.random.default_rng(0)
    words = sorted({"".join(rng.choice(list("abcd"), rng.integers(1, 6))) for _ in range(900)})
    pairs = Pairs(
        name="backwards",
        sources=tuple(tuple(word) for word in words),
        targets=tuple(tuple(word[::-1].upper()) for word in words),
    )
    overrides = {
        "network.hidden_size": 48,
        "network.embedding_size": 8,
        "train.batch_size": 16,
        "train.epochs": 25,
        "train.learning_rate": 8e-3,
        "data.test_count": 100,
    }
    recipe = load_recipe("g2p", overrides)
    problem = transduction(recipe, pairs)
    shapes = problem.spec.parameter_shapes()
    start = Network.initialise(problem.spec, rng=rng)
    parameters = Parameters.of(shapes, start.parameters, np.float32)
    network, gradients, work = (
        Network(problem.spec, parameters),
        Parameters.empty(shapes, np.float32),
        Workspace(),
    )
    rule = AdamW()
    state = rule.initial(parameters.flat)
    for _ in range(recipe.train.epochs):
        for batch in problem.batches(rng):
            problem.learn(network, batch, None, gradients, work, None)
            rule.update(parameters.flat, gradients.flat, state, learning_rate=3e-3)
    # An untrained network is wrong about nearly every letter.
    assert problem.evaluate(network, "test")["phoneme_error_rate"] < 0.1


def test_held_out_words_are_in_no_training_pair() -> None:
    problem = transduction(load_recipe("g2p", {"data.validation_fraction": 0.01}), load_dataset("g2p"))
    trained = {tuple(source) for source in problem.sources}
    parts: tuple[Part, ...] = ("test", "validation")
    for part in parts:
        held = [tuple(source) for source, _ in problem.held_out[part]]
        assert len(set(held)) == len(held)
        assert not trained & set(held)
    assert len(problem.held_out["test"]) == 2000


def test_a_name_under_two_conditions_is_on_one_side_of_the_split() -> None:
    problem = language(load_recipe("names"), load_dataset("names"))
    trained = {tuple(word[1:]) for word in problem.parts["train"]}
    tested = {tuple(word[1:]) for word in problem.parts["test"]}
    assert tested
    assert not trained & tested
    assert problem.vocabulary is not None
    assert problem.vocabulary["conditions"] == {"<female>": 27, "<male>": 28}
    assert problem.vocabulary["case"] == "upper"


def test_the_trigram_baseline_by_hand() -> None:
    """Words of one letter repeated: after the first letter only the end is uncertain."""
    words = tuple(letter * 3 for letter in "abcd" for _ in range(30))
    data = Words(name="toy", words=words, conditions=np.zeros(120, np.int64), condition_names=("word",))
    problem = language(load_recipe("names", {"data.test_fraction": 0.0}), data)
    held = {"train": problem.parts["train"], "validation": [], "test": problem.parts["train"]}
    toy = replace(problem, parts=held, has_test=True)
    network = Network.initialise(toy.spec, rng=np.random.default_rng(0))
    bits = toy.evaluate(network, "test")["baseline_bits_per_char"]
    # The first letter costs 2 bits; after "<word>, a" comes a; after "a, a" comes a or the end: 1 bit twice.
    assert bits == pytest.approx((2 + 0 + 1 + 1) / 4, abs=0.05)


def test_streams_of_a_forecast_carry_on(rng: np.random.Generator) -> None:
    values = np.arange(100, dtype=np.float32)[:, None]
    data = Series(name="ramp", values=values, split=80, channels=("ramp",))
    problem = forecast(
        load_recipe("gait", {"train.window": 6, "train.batch_size": 3, "train.input_noise": 0}), data
    )
    batches = list(problem.batches(rng))
    assert [batch.continues for batch in batches] == [False, True, True, True]
    scale = problem.normalisation.output_scale
    assert scale is not None
    for before, after in pairwise(batches):
        np.testing.assert_allclose((after.x[0] - before.x[-1]) * scale, 1, rtol=1e-4)
    for batch in batches:
        np.testing.assert_allclose((batch.targets - batch.x) * scale, 1, rtol=1e-4)
        # No batch contains a step of the test part.
        assert problem.normalisation.outputs(batch.targets).max() < 80


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vowels", {"network.cell": "rnn"}),
        ("vowels", {"network.cell": "gru", "network.reset_after": True, "network.layers": 2}),
        ("vowels", {"network.bidirectional": True}),
        ("vowels", {"train.dtype": "float64"}),
        ("gait", {"network.cell": "gru", "network.residual": True}),
        ("sunspots", {}),
        ("tumour", {"data.folds": 2}),
        ("names", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(str(v) for v in value.values()),
)
def test_every_recipe_and_variant_trains(
    name: str, overrides: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("out")
    result = train(load_recipe(name, {"network.hidden_size": 16, "train.epochs": 2, **overrides}), out)
    checkpoint = load_checkpoint(out)
    assert result.metrics
    assert all(np.isfinite(value) for value in result.metrics.values())
    assert checkpoint.metrics == result.metrics


def test_tumours_are_told_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    result = train(load_recipe("tumour", {"train.epochs": 20}), tmp_path_factory.mktemp("out"))
    # Always answering benign gives 0.63.
    assert result.metrics["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("names", "network.bidirectional", True),
        ("names", "network.residual", True),
        ("names", "network.call_shape", "many_to_one"),
        ("g2p", "network.call_shape", "many_to_many"),
        ("g2p", "network.layers", 2),
        ("g2p", "network.hidden_size", 33),
        ("tumour", "network.head", "linear"),
    ],
)
def test_settings_that_make_no_sense_for_a_task(
    name: str, key: str, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(RecipeError, match=f"{name}.toml: {key} = "):
        train(load_recipe(name, {key: value}), tmp_path_factory.mktemp("out"))
