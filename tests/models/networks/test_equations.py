"""Fast cells compute their equations: over time, in both directions, on ragged batches, from any state."""

import numpy as np
import pytest
from tests.models.oracle import CellFields, Floats, Weights, cell_step, random_network, run_row

from statewise.models import NetworkSpec, Workspace
from statewise.models.cells import equations, make_cell

I, H, B, T = 3, 4, 5, 7  # noqa: E741
LENGTHS = np.array([7, 1, 4, 7, 2])


def test_a_cell_run_over_time_is_its_equation_step_by_step(
    cell: CellFields, rng: np.random.Generator
) -> None:
    spec = NetworkSpec.from_dict({"input_size": I, "output_size": 0, "hidden_size": H, **cell})
    weights = random_network(rng, spec).parameters.part("layer0.forward")
    fast = make_cell(spec.cell, activation=spec.activation, reset_after=spec.reset_after)
    x = rng.standard_normal((T, I, B))
    memories: tuple[Floats, ...] = tuple(rng.uniform(-1, 1, (H, B)) for _ in fast.memories)
    found, _ = fast.forward(weights, x, memories, Workspace())
    for t in range(T):
        memories = cell_step(spec, weights, x[t], memories)
        for computed, expected in zip(found, memories, strict=True):
            np.testing.assert_allclose(computed[t + 1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("head", ["linear", "softmax", "sigmoid"])
@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
def test_a_ragged_batch_is_each_row_by_the_equations(
    cell: CellFields, bidirectional: bool, call_shape: str, head: str, rng: np.random.Generator
) -> None:
    options = {"layers": 2, "bidirectional": bidirectional, "call_shape": call_shape, "head": head}
    network = random_network(
        rng, NetworkSpec.from_dict({"input_size": I, "output_size": 2, "hidden_size": H, **options, **cell})
    )
    x = rng.standard_normal((T, B, I))
    state = None if bidirectional else rng.uniform(-1, 1, (B, network.spec.memory_size))
    y, final = network.run(x, LENGTHS, state)
    for row, length in enumerate(LENGTHS):
        expected, memories = run_row(network, x[:length, row], None if state is None else state[row])
        found = y[row] if network.spec.final else y[:length, row]
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
        if final is not None:
            np.testing.assert_allclose(final[row], memories, rtol=1e-11, atol=1e-12)


def test_numbers_worked_out_by_hand() -> None:
    """One unit and one input, so that the equations themselves have something to be compared with."""
    one = np.ones((1, 1))
    h = equations.rnn_step(one, 0.5 * one, W=2 * one, R=-one, b=np.array([0.25]))
    assert h.item() == pytest.approx(np.tanh(2 - 0.5 + 0.25))

    def gates(*values: float) -> Floats:
        return np.array(values)[:, None]

    # sigma(0) = 1/2 and sigma(ln 3) = 3/4; biases alone set i, f, o, g.
    weights: Weights = {
        "W": gates(0, 0, 0, 0),
        "R": gates(0, 0, 0, 0),
        "b": np.array([0.0, np.log(3), 0.0, 1.0]),
    }
    h, c = equations.lstm_step(one, one, 2 * one, **weights)
    assert c.item() == pytest.approx(0.75 * 2 + 0.5 * np.tanh(1))
    assert h.item() == pytest.approx(0.5 * np.tanh(c.item()))

    # z = 3/4, r = 1/2.
    shared: Weights = {"W": gates(0, 0, 1), "R": gates(0, 0, 4), "b": np.array([np.log(3), 0.0, 0.0])}
    before = equations.gru_step(one, 0.5 * one, **shared)
    assert before.item() == pytest.approx(0.25 * 0.5 + 0.75 * np.tanh(1 + 4 * (0.5 * 0.5)))
    after = equations.gru_step(one, 0.5 * one, **shared, bR=np.array([2.0]))
    assert after.item() == pytest.approx(0.25 * 0.5 + 0.75 * np.tanh(1 + 0.5 * (4 * 0.5 + 2)))
