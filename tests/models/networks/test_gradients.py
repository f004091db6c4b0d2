"""Compares every gradient with central differences, in float64."""

import numpy as np
import pytest
from tests.models.differences import Array, assert_gradients_agree, central_differences
from tests.models.oracle import CellFields

from statewise.models import (
    Dropout,
    Network,
    NetworkSpec,
    Parameters,
    binary_cross_entropy,
    cross_entropy,
    squared_error,
)
from statewise.models.networks import NetworkTape

T, B, I, O, H = 5, 3, 2, 3, 2  # noqa: E741


def check(
    spec: NetworkSpec,
    rng: np.random.Generator,
    *,
    ragged: bool = False,
    dropout: float = 0.0,
    smoothing: float = 0.0,
) -> None:
    """Check the gradients of a loss on scores and final state, with respect to all that it depends on."""
    shapes = spec.parameter_shapes()
    start = Network.initialise(spec, rng=rng, dtype=np.float64)
    parameters = Parameters.of(shapes, start.parameters, np.float64)
    parameters.flat[:] += 0.1 * rng.standard_normal(parameters.flat.size)
    network = Network(spec, parameters)
    steps = 1 if spec.call_shape == "one_to_one" else T
    tokens = rng.integers(0, spec.input_size, (steps, B))
    x = rng.standard_normal((steps, B, spec.input_size))
    inputs = tokens if spec.embedding_size else x
    lengths = np.array([steps, 2, 3]) if ragged else None
    state = rng.standard_normal((B, spec.memory_size))
    by_final = rng.standard_normal((B, spec.memory_size))
    entries = (B,) if spec.final else (steps, B)
    classes = rng.integers(0, max(1, spec.output_size), entries)
    values = rng.standard_normal((*entries, spec.output_size or spec.hidden_size * len(spec.directions)))
    counted = None if lengths is None or spec.final else np.arange(steps)[:, None] < lengths

    def forward() -> tuple[float, Array, NetworkTape]:
        mask = Dropout(rate=dropout, rng=np.random.default_rng(3)) if dropout else None
        scores, final, tape = network.forward(inputs, lengths, state, dropout=mask)
        match spec.head:
            case "softmax":
                loss, d_scores = cross_entropy(scores, classes, counted, smoothing=smoothing)
            case "sigmoid":
                loss, d_scores = binary_cross_entropy(scores, (values > 0).astype(float), counted)
            case _:
                loss, d_scores = squared_error(scores, values, counted)
        return loss + float((final * by_final).sum()), d_scores, tape

    _, d_scores, tape = forward()
    gradients = Parameters.empty(shapes, np.float64)
    d_x, d_state = network.backward(tape, d_scores, by_final, gradients=gradients, input_gradient=True)
    analytic = {"parameters": gradients.flat, "state": d_state}
    varied = {"parameters": parameters.flat, "state": state}
    if spec.embedding_size:
        assert d_x is None
    else:
        assert d_x is not None
        analytic["x"], varied["x"] = d_x, x
    numeric = {name: central_differences(lambda: forward()[0], value) for name, value in varied.items()}
    assert_gradients_agree(analytic, numeric)


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
def test_every_cell(
    cell: CellFields,
    layers: int,
    bidirectional: bool,
    ragged: bool,
    call_shape: str,
    rng: np.random.Generator,
) -> None:
    spec = NetworkSpec.from_dict(
        {
            **cell,
            "input_size": I,
            "output_size": O,
            "hidden_size": H,
            "layers": layers,
            "bidirectional": bidirectional,
            "call_shape": call_shape,
        }
    )
    check(spec, rng, ragged=ragged)


@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one", "one_to_one"])
@pytest.mark.parametrize("head", ["linear", "softmax", "sigmoid"])
def test_every_head(head: str, call_shape: str, rng: np.random.Generator) -> None:
    spec = NetworkSpec.from_dict(
        {"input_size": I, "output_size": O, "hidden_size": 3, "head": head, "call_shape": call_shape}
    )
    check(spec, rng, ragged=call_shape != "one_to_one", smoothing=0.1)


@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
def test_no_head(call_shape: str, rng: np.random.Generator) -> None:
    spec = NetworkSpec.from_dict(
        {"input_size": I, "output_size": 0, "hidden_size": 2, "bidirectional": True, "call_shape": call_shape}
    )
    check(spec, rng, ragged=True)


def test_residual(rng: np.random.Generator) -> None:
    check(NetworkSpec(input_size=3, output_size=2, hidden_size=3, residual=True), rng, ragged=True)


@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
def test_embedding(call_shape: str, rng: np.random.Generator) -> None:
    spec = NetworkSpec.from_dict(
        {
            "input_size": 4,
            "output_size": O,
            "hidden_size": 3,
            "embedding_size": 2,
            "call_shape": call_shape,
            "bidirectional": True,
        }
    )
    check(spec, rng, ragged=True)


@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
def test_dropout_between_layers_and_before_the_head(call_shape: str, rng: np.random.Generator) -> None:
    spec = NetworkSpec.from_dict(
        {"input_size": I, "output_size": O, "hidden_size": 4, "layers": 2, "call_shape": call_shape}
    )
    check(spec, rng, ragged=True, dropout=0.5)


def test_the_check_itself_notices_a_wrong_gradient() -> None:
    right = {"parameters": np.array([1.0, 1e-5])}
    with pytest.raises(AssertionError):
        assert_gradients_agree(right, {"parameters": np.array([1.0, 1e-5 + 3e-9])})
