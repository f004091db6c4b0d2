"""Checks the effects: equations exactly, results of training by inequalities."""

import numpy as np
import pytest
from tests.models.oracle import CellFields, Floats

from statewise.models import Network, NetworkSpec, Parameters, load_recipe, squared_error
from statewise.models.effects import (
    Unrolled,
    adding_examples,
    adding_problem,
    beginning_errors,
    candidate_effect,
    gate_values,
    gradient_flow,
    gradient_norms,
    gradient_terms,
    order_effect,
    state_jacobians,
)
from statewise.models.networks import CellName

T = 6


def build(cell: CellFields, rng: np.random.Generator, **fields: object) -> Network:
    spec = NetworkSpec.from_dict({"input_size": 2, "output_size": 3, "hidden_size": 4, **cell, **fields})
    network = Network.initialise(spec, rng=rng, dtype=np.float64)
    noise = 0.1 * rng.standard_normal(network.parameters.flat.size)
    return Network(spec, Parameters(spec.parameter_shapes(), network.parameters.flat + noise))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_terms_of_the_sum_add_up_to_bptt(cell: CellFields, layers: int, rng: np.random.Generator) -> None:
    network = build(cell, rng, layers=layers)
    x, v = rng.standard_normal((T, 2)), rng.standard_normal(network.spec.memory_size)
    terms = gradient_terms(network, x, v)
    _, _, tape = network.forward(x[:, None])
    whole = Parameters.empty(network.spec.parameter_shapes(), np.float64)
    network.backward(tape, None, v[None], gradients=whole)
    assert len(terms) == T
    np.testing.assert_allclose(sum(term.flat for term in terms), whole.flat, rtol=1e-10, atol=1e-13)


def test_a_term_is_the_derivative_by_one_use_of_the_weights(
    cell: CellFields, rng: np.random.Generator
) -> None:
    """The oracle is a finite difference that changes R at step k alone."""
    network = build(cell, rng)
    x, v = rng.standard_normal((T, 2)), rng.standard_normal(network.spec.memory_size)
    k, name, width = 2, "layer0.forward.R", 1e-6

    def final(change: float) -> float:
        values = {key: value.copy() for key, value in network.parameters.items()}
        values[name][0, 1] += change
        changed = Network(network.spec, values)
        state = None
        for t in range(T):
            _, state = (changed if t == k else network).run(x[t][None, None], None, state)
        assert state is not None
        return float(state[0] @ v)

    numeric = (final(width) - final(-width)) / (2 * width)
    assert gradient_terms(network, x, v)[k][name][0, 1] == pytest.approx(numeric, rel=1e-5, abs=1e-9)


def test_state_jacobians_against_finite_differences(rng: np.random.Generator) -> None:
    network = build({"cell": "lstm"}, rng)
    x, width = rng.standard_normal((T, 2)), 1e-6
    jacobians = state_jacobians(network, x)
    S = network.spec.memory_size
    np.testing.assert_array_equal(jacobians[-1], np.eye(S))
    numeric = np.empty((S, S))
    for column in range(S):
        change = width * np.eye(S)[column][None]
        above, below = (network.run(x[:, None], None, sign * change)[1] for sign in (1, -1))
        assert above is not None
        assert below is not None
        numeric[:, column] = (above - below)[0] / (2 * width)
    np.testing.assert_allclose(jacobians[0], numeric, atol=1e-8)


def test_the_unrolled_network_is_the_recurrent_one(cell: CellFields, rng: np.random.Generator) -> None:
    network = build(cell, rng, layers=2)
    x, targets = rng.standard_normal((T, 3, 2)), rng.standard_normal((T, 3, 3))
    unrolled = Unrolled.of(network, T)
    scores, _, tape = network.forward(x)
    np.testing.assert_allclose(unrolled.forward(x), scores, rtol=1e-12, atol=1e-12)

    _, d_scores = squared_error(scores, targets)
    recurrent = Parameters.empty(network.spec.parameter_shapes(), np.float64)
    network.backward(tape, d_scores, gradients=recurrent)
    tied = sum(part.flat for part in unrolled.gradients(x, list(d_scores)))
    np.testing.assert_allclose(tied, recurrent.flat, rtol=1e-9, atol=1e-12)


def test_only_the_untied_network_grows_with_time(rng: np.random.Generator) -> None:
    network = build({"cell": "gru"}, rng)
    count = network.parameters.flat.size
    assert [Unrolled.of(network, steps).parameter_count for steps in (1, 5, 50)] == [
        count,
        5 * count,
        50 * count,
    ]
    for steps in (1, 50):
        network.run(np.zeros((steps, 1, 2)))
        assert network.parameters.flat.size == count


def test_gradients_vanish_or_explode_by_the_recurrent_weights() -> None:
    small = gradient_flow("rnn", gain=0.5)
    # Every factor is R^T diag(phi') with phi' at most 1: the norm falls at least by the gain each step.
    assert (small.norms[:-1] <= 0.5 * small.norms[1:] * (1 + 1e-9)).all()
    assert gradient_flow("rnn", activation="relu", gain=2.5).norms[0] > 1e6
    # The memory cell keeps what the plain RNN of the same size loses.
    assert gradient_flow("lstm").norms[50] > 1e3 * gradient_flow("rnn", gain=0.8).norms[50]


def test_clipping_bounds_the_norm_and_keeps_the_direction() -> None:
    flow = gradient_flow("rnn", activation="relu", gain=2.5, clip_norm=1.0)
    assert flow.parameter_norm > 1e3
    assert flow.clipped_norm == pytest.approx(1.0)
    assert flow.cosine == pytest.approx(1.0)


def test_gradient_norms_end_with_the_gradient_given(rng: np.random.Generator) -> None:
    network = build({"cell": "gru"}, rng)
    norms = gradient_norms(network, rng.standard_normal((T, 1, 2)), np.full((1, 4), 0.5))
    assert norms.shape == (T + 1,)
    assert norms[-1] == pytest.approx(1.0)


def test_adding_examples_are_what_the_problem_says() -> None:
    x, sums = adding_examples(20, 50, np.random.default_rng(0))
    assert (x[:10, :, 1].sum(axis=0) == 1).all()
    assert (x[10:, :, 1].sum(axis=0) == 1).all()
    np.testing.assert_allclose((x[:, :, 0] * x[:, :, 1]).sum(axis=0), sums[:, 0], rtol=1e-6)


def test_a_short_adding_problem_separates_the_cells() -> None:
    def error(cell: CellName) -> float:
        return adding_problem(cell, steps=40, updates=300, hidden_size=32, learning_rate=1e-2)

    assert error("gru") < 0.05
    assert error("rnn") > 0.1


def test_the_first_steps_gain_by_a_learned_initial_state() -> None:
    def errors(*, learned: bool) -> Floats:
        return beginning_errors("lstm", learned=learned, steps=8, updates=200, hidden_size=16)

    zeros, learned = errors(learned=False), errors(learned=True)
    assert zeros.shape == learned.shape == (8,)
    assert zeros[0] > zeros[-1]
    assert learned[0] < zeros[0]


def test_order_matters_to_a_network_that_learned_it() -> None:
    effect = order_effect(load_recipe("vowels", {"train.epochs": 30, "train.input_noise": 0.3}))
    assert effect.in_order > effect.read_shuffled + 0.02


def test_a_sigmoid_candidate_can_only_add() -> None:
    effects = candidate_effect(load_recipe("vowels", {"train.epochs": 8}))
    assert abs(effects["tanh"].candidate_mean) < 0.15
    assert effects["sigmoid"].candidate_mean > 0.25
    assert effects["sigmoid"].memory_mean > abs(effects["tanh"].memory_mean)


def test_gate_values_follow_the_equations(rng: np.random.Generator) -> None:
    network = build({"cell": "lstm"}, rng)
    values = gate_values(network, rng.standard_normal((T, 2)))
    i, f, o, g, h, c = (values[f"layer0.{name}"] for name in "ifoghc")
    before = np.concatenate([np.zeros((1, 4)), c[:-1]])
    np.testing.assert_allclose(c, f * before + i * g, rtol=1e-12)
    np.testing.assert_allclose(h, o * np.tanh(c), rtol=1e-12)
