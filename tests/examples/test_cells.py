"""Compares the example cells with closed forms of what they compute, and streams them as a reader would.

They are written in PyTorch: `pip install torch==2.13.0 onnxscript`; skipped where it is absent.
"""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.arrays import Array

torch = pytest.importorskip(
    "torch", reason="install PyTorch to run the example cells: pip install torch==2.13.0"
)

CELLS = Path(__file__).parents[2] / "examples/cells"
T = 12


def load(name: str) -> dict[str, Any]:
    """The names that a cell's file defines."""
    return runpy.run_path(str(CELLS / f"{name}.py"))


def sigma(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def linear(module: Any, x: Array) -> Array:
    """x W^T, plus the bias where there is one."""
    y = x @ module.weight.detach().numpy().T
    return np.asarray(y if module.bias is None else y + module.bias.detach().numpy())


def min_gru(cell: dict[str, Any], step: Any, x: Array) -> Array:
    """h_T is the sum of what was written, each times what was kept of it since."""
    z, n = sigma(linear(step.update, x)), linear(step.candidate, x)
    h = sum(z[t] * n[t] * np.prod(1 - z[t + 1 :], axis=0) for t in range(T))
    return linear(step.head, np.asarray(h))


def slstm(cell: dict[str, Any], step: Any, x: Array) -> Array:
    """The equations without m, which only scales c and n."""
    h = c = n = np.zeros(cell["UNITS"])
    for row in x:
        i, f, o, z = np.split(linear(step.from_input, row) + linear(step.from_state, h), 4)
        c = np.exp(f) * c + np.exp(i) * np.tanh(z)
        n = np.exp(f) * n + np.exp(i)
        h = sigma(o) * c / n
    return linear(step.head, h)


def selective_state_space(cell: dict[str, Any], step: Any, x: Array) -> Array:
    """Each input as it was written, faded by the lengths of all later steps."""
    d = np.log1p(np.exp(linear(step.length, x)))  # [T, CHANNELS]
    rates = np.exp(step.log_rates.detach().numpy())  # [CHANNELS, STATES]
    written = (d * x)[:, :, None] * linear(step.write, x)[:, None]  # [T, CHANNELS, STATES]
    s = sum(np.exp(-d[t + 1 :].sum(axis=0)[:, None] * rates) * written[t] for t in range(T))
    return np.asarray(s @ linear(step.read, x[-1]) + step.skip.detach().numpy() * x[-1])


def time_mix(cell: dict[str, Any], step: Any, x: Array) -> Array:
    """A mean over all steps so far, weighted by e to the power of key minus distance."""
    before = np.concatenate([np.zeros((1, cell["CHANNELS"])), x[:-1]])
    mixed = [before + share * (x - before) for share in step.mix.detach().numpy()]
    k, v = linear(step.key, mixed[0]), linear(step.value, mixed[1])
    r = linear(step.receptance, mixed[2][-1])
    distance = np.arange(T - 2, -2, -1)[:, None] * np.exp(step.decay.detach().numpy())
    weights = np.exp(k - distance)
    weights[-1] = np.exp(k[-1] + step.bonus.detach().numpy())
    return linear(step.output, sigma(r) * (weights * v).sum(axis=0) / weights.sum(axis=0))


def kalman_filter(cell: dict[str, Any], step: Any, x: Array) -> Array:
    """The mean of the position given all measurements, by conditioning their joint normal distribution."""
    F, Q = step.move.numpy(), step.spread.numpy()
    covariances = [cell["INITIAL"]["covariance"].double().numpy()]
    for _ in range(T):
        covariances.append(F @ covariances[-1] @ F.T + Q)
    between = np.empty((T, T))  # covariance of the positions at two steps
    for s in range(T):
        for t in range(s, T):
            moved = covariances[s + 1] @ np.linalg.matrix_power(F, t - s).T
            between[s, t] = between[t, s] = moved[0, 0]
    measured = between + cell["MEASURED"] * np.eye(T)
    return np.asarray(between[-1] @ np.linalg.solve(measured, x[:, 0]))


def exponential_mean(cell: dict[str, Any], step: Any, x: Array) -> Array:
    """A mean with weights that fall by 1 - alpha a step."""
    alpha = cell["ALPHA"]
    return np.asarray((alpha * (1 - alpha) ** np.arange(T - 1, -1, -1)) @ x)


FORMS: dict[str, Callable[[dict[str, Any], Any, Array], Array]] = {
    form.__name__: form
    for form in (min_gru, slstm, selective_state_space, time_mix, kalman_filter, exponential_mean)
}


def test_every_cell_has_a_closed_form() -> None:
    assert set(FORMS) == {path.stem for path in CELLS.glob("*.py")} - {"run"}


@pytest.mark.parametrize("name", FORMS)
def test_step_by_step_a_cell_computes_its_closed_form(name: str) -> None:
    cell = load(name)
    torch.manual_seed(1)
    step = cell["Step"]().double()
    x = np.random.default_rng(2).standard_normal((T, cell["FEATURES"]))
    states: Any = [state.double()[None] for state in cell["INITIAL"].values()]
    for row in torch.from_numpy(x)[:, None]:
        results = step(row, *states)
        results = results if isinstance(results, tuple) else (results,)
        states = results[len(cell["OUTPUTS"]) :]
        assert len(states) == len(cell["INITIAL"])
    expected = FORMS[name](cell, step, x)
    np.testing.assert_allclose(results[0][0].detach().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.long
def test_the_runner_streams_every_cell() -> None:
    pytest.importorskip("onnxscript", reason="install onnxscript to export the example cells")
    command = [sys.executable, "-W", "error", str(CELLS / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert set(lines) == set(FORMS)
    for name, line in lines.items():
        assert line.startswith("class exact, "), name
        assert "begins in INITIAL: yes" in line, name
        [differences] = re.findall(r"from PyTorch by (\S+) \(its state by (\S+)\)", line)
        assert max(map(float, differences)) < 1e-5, name
        assert line.endswith("the same bits in every way: yes"), name
