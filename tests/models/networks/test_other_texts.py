"""Proves the corrections of docs/training.md to other texts: each wrong reading gives another number."""

import numpy as np
import pytest
from tests.models.oracle import Floats, Weights, random_network

from statewise.models import Checkpoint, NetworkSpec, generate_values
from statewise.models.cells.equations import gru_step, lstm_step, rnn_step, sigma
from statewise.models.effects import gate_values, gradient_terms, state_jacobians

STEPS, W, B, H0 = 3, 0.7, -0.2, 0.4
# A bias that opens a gate (sigma is 1 but for 1e-22) or, negated, closes it.
OPEN = 50.0


def states(w: float) -> list[float]:
    """h_0 to h_3 of h_k = sigma(w h_{k-1} + b), a cell of one unit without input."""
    h = [H0]
    for _ in range(STEPS):
        h.append(float(sigma(np.array(w * h[-1] + B))))
    return h


def chain() -> tuple[list[float], list[float], float]:
    """d+h_k/dw with h_{k-1} held fixed, dh_k/dh_{k-1}, and dh_3/dw by central differences."""
    h = states(W)
    slopes = [value * (1 - value) for value in h[1:]]
    explicit = [slope * before for slope, before in zip(slopes, h, strict=False)]
    jacobians = [slope * W for slope in slopes]
    return explicit, jacobians, (states(W + 1e-6)[-1] - states(W - 1e-6)[-1]) / 2e-6


def test_along_the_chain_jacobian_and_derivative_are_multiplied() -> None:
    (d1, d2, d3), (_, j2, j3), whole = chain()
    assert d3 + j3 * (d2 + j2 * d1) == pytest.approx(whole, rel=1e-6)
    assert d3 + j3 + d2 != pytest.approx(whole, rel=0.1)


def test_the_sum_takes_explicit_derivatives() -> None:
    explicit, jacobians, whole = chain()
    reach = [jacobians[1] * jacobians[2], jacobians[2], 1.0]  # dh_3/dh_k
    assert np.dot(reach, explicit) == pytest.approx(whole, rel=1e-6)
    total: list[float] = []  # dh_k/dw, all paths
    for d, j in zip(explicit, jacobians, strict=True):
        total.append(d + j * (total[-1] if total else 0.0))
    assert np.dot(reach, total) != pytest.approx(whole, rel=0.01)


def test_the_terms_of_a_network_are_jacobian_times_explicit_derivative(rng: np.random.Generator) -> None:
    network = random_network(
        rng, NetworkSpec(input_size=1, output_size=0, cell="rnn", hidden_size=1, activation="sigmoid")
    )
    x = rng.standard_normal((STEPS, 1))
    h = np.concatenate([[0.0], gate_values(network, x)["layer0.h"][:, 0]])
    explicit = h[1:] * (1 - h[1:]) * h[:-1]
    found = [term["layer0.forward.R"].item() for term in gradient_terms(network, x, np.ones(1))]
    np.testing.assert_allclose(found, state_jacobians(network, x)[1:, 0, 0] * explicit, rtol=1e-10)


def test_gamma_and_z_are_one_gate_of_state_and_input_side_by_side(rng: np.random.Generator) -> None:
    """W_z [h, x] is R_z h + W_z x; written without biases, b is zero."""
    H, x, h = 4, rng.standard_normal((3, 2)), rng.uniform(-1, 1, (4, 2))
    W, R = rng.standard_normal((3 * H, 3)), rng.standard_normal((3 * H, H))
    W_z, W_r, W_n = np.split(np.concatenate([R, W], axis=1), 3)
    gamma = sigma(W_z @ np.concatenate([h, x]))
    r = sigma(W_r @ np.concatenate([h, x]))
    n = np.tanh(W_n @ np.concatenate([r * h, x]))
    found = gru_step(x, h, W=W, R=R, b=np.zeros(3 * H))
    np.testing.assert_allclose(found, (1 - gamma) * h + gamma * n, rtol=1e-12)


@pytest.mark.parametrize("reset_after", [False, True])
def test_z_of_one_replaces_the_state_and_z_of_zero_keeps_it(
    reset_after: bool, rng: np.random.Generator
) -> None:
    H, x, h = 4, rng.standard_normal((3, 2)), rng.uniform(-1, 1, (4, 2))
    W, R = rng.standard_normal((3 * H, 3)), rng.standard_normal((3 * H, H))
    bR = rng.standard_normal(H) if reset_after else None
    b = np.repeat([0.0, -OPEN, 0.0], H)  # r = 0: the candidate sees no state
    candidate = np.tanh(W[2 * H :] @ x)
    b[:H] = OPEN
    np.testing.assert_allclose(gru_step(x, h, W=W, R=R, b=b, bR=bR), candidate, atol=1e-12)
    b[:H] = -OPEN
    np.testing.assert_allclose(gru_step(x, h, W=W, R=R, b=b, bR=bR), h, atol=1e-12)


def test_a_gate_is_a_matrix_product_so_that_every_unit_sees_every_other() -> None:
    """R_f has one entry, from unit 0 to unit 1: an element-wise product could not carry it across."""
    R = np.zeros((8, 2))
    R[3, 0] = 1.0  # row 3 is the forget gate of unit 1
    weights: Weights = {"W": np.zeros((8, 1)), "R": R, "b": np.zeros(8)}
    x, c = np.zeros((1, 1)), np.ones((2, 1))
    _, low = lstm_step(x, np.array([[0.0], [0.5]]), c, **weights)
    _, high = lstm_step(x, np.array([[2.0], [0.5]]), c, **weights)
    assert high[1] > low[1] + 0.3
    assert high[0] == low[0]


def test_the_forget_gate_multiplies_the_cell_state_and_not_the_output(rng: np.random.Generator) -> None:
    H, x = 3, rng.standard_normal((2, 1))
    b = np.repeat([-OPEN, 0.5, 0.0, 0.0], H)  # i = 0: nothing is written
    weights: Weights = {"W": rng.standard_normal((4 * H, 2)), "R": rng.standard_normal((4 * H, H)), "b": b}
    h, c = rng.uniform(-1, 1, (H, 1)), rng.uniform(0.5, 1, (H, 1))
    f = sigma(weights["W"][H : 2 * H] @ x + weights["R"][H : 2 * H] @ h + b[H : 2 * H, None])
    np.testing.assert_allclose(lstm_step(x, h, c, **weights)[1], f * c, atol=1e-12)
    np.testing.assert_allclose(lstm_step(x, h, np.zeros_like(c), **weights)[1], 0, atol=1e-12)


def test_the_hidden_state_is_always_fed_back_the_output_only_in_generation(
    rng: np.random.Generator,
) -> None:
    network = random_network(rng, NetworkSpec(input_size=2, output_size=2, cell="rnn", hidden_size=4))
    x = rng.standard_normal((5, 1, 2))
    W, R, b = (network.parameters[f"layer0.forward.{name}"] for name in "WRb")
    V, c = network.parameters["head.V"], network.parameters["head.c"]

    # While a sequence is read, h is fed back and y is not.
    h: Floats = np.zeros((4, 1))
    for t in range(5):
        h = rnn_step(x[t].T, h, W=W, R=R, b=b)
    y, state = network.run(x)
    assert state is not None
    np.testing.assert_allclose(state, h.T, rtol=1e-12)

    # In generation, y is fed back too: it is the next x.
    emitted, _, _ = generate_values(Checkpoint(network=network), state, y[-1], 3)
    for t in range(3):
        output = (V @ h + c[:, None]).T
        np.testing.assert_allclose(emitted[t], output, rtol=1e-10)
        h = rnn_step(output.T, h, W=W, R=R, b=b)
