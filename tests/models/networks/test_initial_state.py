"""Learned initial states: sequences begin in them, gradients reach them, checkpoints keep them."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.differences import Array, assert_gradients_agree, central_differences
from tests.models.oracle import CellFields, random_network, run_row

from statewise.models import (
    Checkpoint,
    Network,
    NetworkSpec,
    Parameters,
    load_checkpoint,
    load_recipe,
    save_checkpoint,
    squared_error,
    train,
)
from statewise.models.effects import gradient_terms

T, B, I, H = 4, 3, 2, 3  # noqa: E741
LENGTHS = np.array([4, 1, 3])


def learning(cell: CellFields, **fields: object) -> NetworkSpec:
    sizes = {"input_size": I, "output_size": 2, "hidden_size": H, "learn_initial_state": True}
    return NetworkSpec.from_dict({**sizes, **cell, **fields})


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
def test_sequences_begin_in_the_learned_state(
    cell: CellFields, call_shape: str, bidirectional: bool, rng: np.random.Generator
) -> None:
    spec = learning(cell, layers=2, call_shape=call_shape, bidirectional=bidirectional)
    network = random_network(rng, spec)
    assert network.initial_state.shape == (spec.memory_size,)
    assert network.initial_state.all()
    x = rng.standard_normal((T, B, I))
    y, _ = network.run(x, LENGTHS)
    for row, length in enumerate(LENGTHS):
        expected, _ = run_row(network, x[:length, row], network.initial_state)
        found = y[row] if spec.final else y[:length, row]
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_a_given_state_replaces_the_learned_one(rng: np.random.Generator) -> None:
    network = random_network(rng, learning({"cell": "lstm"}))
    x = rng.standard_normal((T, B, I))
    given, _ = network.run(x, state=np.zeros((B, network.spec.memory_size)))
    for row in range(B):
        np.testing.assert_allclose(given[:, row], run_row(network, x[:, row])[0], rtol=1e-11, atol=1e-12)
    halfway, state = network.run(x[:2])
    rest, _ = network.run(x[2:], state=state)
    np.testing.assert_allclose(np.concatenate([halfway, rest]), network.run(x)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
def test_its_gradient_is_that_of_the_first_steps_summed_over_the_batch(
    cell: CellFields, call_shape: str, layers: int, bidirectional: bool, rng: np.random.Generator
) -> None:
    spec = learning(cell, layers=layers, bidirectional=bidirectional, call_shape=call_shape)
    shapes = spec.parameter_shapes()
    parameters = Parameters.of(shapes, random_network(rng, spec).parameters, np.float64)
    network = Network(spec, parameters)
    x = rng.standard_normal((T, B, I))
    targets = rng.standard_normal((B, 2) if spec.final else (T, B, 2))
    counted = None if spec.final else np.arange(T)[:, None] < LENGTHS

    def loss() -> float:
        return squared_error(network.forward(x, LENGTHS)[0], targets, counted)[0]

    scores, _, tape = network.forward(x, LENGTHS)
    gradients = Parameters.empty(shapes, np.float64)
    _, d_initial = network.backward(
        tape, squared_error(scores, targets, counted)[1], gradients=gradients, input_gradient=True
    )
    assert_gradients_agree(
        {"parameters": gradients.flat}, {"parameters": central_differences(loss, parameters.flat)}
    )
    found = np.concatenate([gradients[f"initial.{name}"] for name, _, _ in spec.memory_parts()])
    np.testing.assert_allclose(found, d_initial.sum(axis=0), rtol=1e-12, atol=1e-15)


def test_a_sequence_that_goes_on_has_no_share_in_its_gradient(rng: np.random.Generator) -> None:
    """Truncated backpropagation: a window that continues another one does not begin in the learned state."""
    network = random_network(rng, learning({"cell": "gru"}))
    x = rng.standard_normal((T, B, I))
    gradients = Parameters(network.spec.parameter_shapes(), np.ones(network.parameters.flat.size))
    scores, final, _ = network.forward(x)
    _, _, tape = network.forward(x, None, final)
    network.backward(tape, np.ones_like(scores), gradients=gradients)
    assert not gradients["initial.layer0.forward.h"].any()
    assert gradients["layer0.forward.R"].all()


def test_the_terms_of_backpropagation_include_it(rng: np.random.Generator) -> None:
    network = random_network(rng, learning({"cell": "lstm"}))
    x, v = rng.standard_normal((T, I)), rng.standard_normal(network.spec.memory_size)
    whole = Parameters.empty(network.spec.parameter_shapes(), np.float64)
    network.backward(network.forward(x[:, None])[2], None, v[None], gradients=whole)
    terms = gradient_terms(network, x, v)
    np.testing.assert_allclose(sum(term.flat for term in terms), whole.flat, rtol=1e-10, atol=1e-13)


def test_a_fresh_network_begins_with_zeros(cell: CellFields) -> None:
    spec = learning(cell, layers=2)
    plain = NetworkSpec.from_dict({**spec.to_dict(), "learn_initial_state": False})
    networks = [Network.initialise(one, rng=np.random.default_rng(1)) for one in (spec, plain)]
    x = np.random.default_rng(2).standard_normal((T, B, I)).astype(np.float32)
    first, second = (network.run(x)[0] for network in networks)
    np.testing.assert_array_equal(first, second)
    assert networks[0].parameters.flat.size - networks[1].parameters.flat.size == spec.memory_size
    assert not networks[1].initial_state.any()


def test_a_decoder_does_not_learn_one() -> None:
    encoder = NetworkSpec(input_size=5, output_size=0, learn_initial_state=True)
    fields: dict[str, Any] = {"input_size": 6, "output_size": 6, "call_shape": "encoder_decoder"}
    decoder = NetworkSpec(**fields, encoder=encoder)
    assert "encoder.initial.layer0.forward.c" in decoder.parameter_shapes()
    assert NetworkSpec.from_dict(decoder.to_dict()) == decoder
    with pytest.raises(ValueError, match="a decoder begins in its encoder's final state"):
        NetworkSpec(**fields, encoder=encoder, learn_initial_state=True)


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


def test_checkpoints_keep_it_and_older_ones_load(tmp_path: Path, rng: np.random.Generator) -> None:
    network = random_network(rng, learning({"cell": "lstm"}))
    loaded = load_checkpoint(save_checkpoint(Checkpoint(network=network), tmp_path / "learned")).network
    np.testing.assert_array_equal(loaded.initial_state, network.initial_state)
    assert loaded.spec == network.spec

    plain = Network.initialise(NetworkSpec(input_size=I, output_size=2), rng=rng)
    folder = save_checkpoint(Checkpoint(network=plain), tmp_path / "older")
    changed(folder / "network.json", lambda described: described["spec"].pop("learn_initial_state"))
    assert load_checkpoint(folder).network.spec == plain.spec


@pytest.mark.parametrize(
    ("recipe", "parameter"),
    [("tumour", "initial.layer0.forward.h"), ("names", "initial.layer0.forward.c")],
)
def test_training_moves_it(tmp_path: Path, recipe: str, parameter: str) -> None:
    keys = {"network.learn_initial_state": True, "network.hidden_size": 8, "train.epochs": 1}
    trained = train(load_recipe(recipe, keys), tmp_path / "run")
    moved: Array = load_checkpoint(trained.checkpoint_dir).network.parameters[parameter]
    assert np.abs(moved).max() > 1e-3


PAIRS = """
task = "transduce"
[data]
source = "pairs.txt"
[network]
cell = "gru"
hidden_size = 8
bidirectional = true
learn_initial_state = true
[train]
epochs = 1
batch_size = 8
"""


def test_of_a_pair_of_networks_the_encoder_learns_it(tmp_path: Path) -> None:
    (tmp_path / "pairs.toml").write_text(PAIRS)
    words = ["".join(letters) for letters in itertools.product("abc", repeat=4)]
    (tmp_path / "pairs.txt").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    trained = train(load_recipe(tmp_path / "pairs.toml"), tmp_path / "run")
    network = load_checkpoint(trained.checkpoint_dir).network
    assert not network.spec.learn_initial_state
    for direction in ("forward", "reverse"):
        assert np.abs(network.parameters[f"encoder.initial.layer0.{direction}.h"]).max() > 1e-3
