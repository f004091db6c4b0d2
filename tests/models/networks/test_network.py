"""Checks how networks treat states, lengths, padding and wrong inputs."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.models.oracle import CellFields

from statewise.models import Network, NetworkSpec


def build(rng: np.random.Generator, dtype: npt.DTypeLike = np.float64, **fields: object) -> Network:
    spec = NetworkSpec.from_dict({"input_size": 3, "output_size": 2, "hidden_size": 4, **fields})
    return Network.initialise(spec, rng=rng, dtype=dtype)


@pytest.mark.parametrize("layers", [1, 2])
def test_halves_with_the_state_between_equal_the_whole(
    cell: CellFields, layers: int, rng: np.random.Generator
) -> None:
    network = build(rng, layers=layers, **cell)
    x = rng.standard_normal((8, 3, 3))
    whole, end = network.run(x)
    first, state = network.run(x[:3])
    second, last = network.run(x[3:], state=state)
    assert last is not None
    assert end is not None
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last, end, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("call_shape", ["many_to_many", "many_to_one"])
def test_padding_never_leaks(
    cell: CellFields, bidirectional: bool, call_shape: str, rng: np.random.Generator
) -> None:
    network = build(rng, layers=2, bidirectional=bidirectional, call_shape=call_shape, head="softmax", **cell)
    x = rng.standard_normal((7, 4, 3))
    lengths = np.array([7, 1, 4, 2])
    x[np.arange(7)[:, None] >= lengths] = np.nan
    y, state = network.run(x, lengths)
    for row, length in enumerate(lengths):
        alone, alone_state = network.run(x[:length, row : row + 1])
        if call_shape == "many_to_one":
            np.testing.assert_allclose(y[row], alone[0], rtol=0, atol=1e-14)
        else:
            np.testing.assert_allclose(y[:length, row], alone[:, 0], rtol=0, atol=1e-14)
            assert (y[length:, row] == 0).all()
        if bidirectional:
            assert state is None
        else:
            assert state is not None
            assert alone_state is not None
            np.testing.assert_allclose(state[row], alone_state[0], rtol=0, atol=1e-14)


def test_a_reverse_layer_reads_each_row_from_its_own_end(rng: np.random.Generator) -> None:
    both = build(rng, bidirectional=True, output_size=8)
    forward = {
        name.replace(".reverse.", ".forward."): value
        for name, value in both.parameters.items()
        if ".reverse." in name
    }
    identity = {"head.V": np.eye(4), "head.c": np.zeros(4)}
    mirrored = Network(NetworkSpec(input_size=3, output_size=4, hidden_size=4), forward | identity)
    read = Network(both.spec, {**both.parameters, "head.V": np.eye(8), "head.c": np.zeros(8)})
    x = rng.standard_normal((5, 2, 3))
    y, _ = read.run(x, [5, 3])
    for row, length in enumerate([5, 3]):
        backwards, _ = mirrored.run(x[:length, row : row + 1][::-1])
        np.testing.assert_allclose(y[:length, row, 4:], backwards[::-1, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("lstm", [("layer0.h", 0, 4), ("layer0.c", 4, 4), ("layer1.h", 8, 4), ("layer1.c", 12, 4)]),
        ("gru", [("layer0.h", 0, 4), ("layer1.h", 4, 4)]),
    ],
)
def test_state_parts(cell: str, parts: list[tuple[str, int, int]], rng: np.random.Generator) -> None:
    network = build(rng, cell=cell, layers=2, output_size=4)
    assert network.spec.state_parts() == parts
    # With an identity for a head, the outputs of the last step are the top layer's h.
    network = Network(network.spec, {**network.parameters, "head.V": np.eye(4), "head.c": np.zeros(4)})
    y, state = network.run(rng.standard_normal((3, 2, 3)))
    _, offset, size = next(part for part in parts if part[0] == "layer1.h")
    assert state is not None
    np.testing.assert_array_equal(y[-1], state[:, offset : offset + size])


def test_float32_stays_float32(cell: CellFields, rng: np.random.Generator) -> None:
    y, state = build(rng, np.float32, **cell).run(rng.standard_normal((3, 2, 3)).astype(np.float32))
    assert y.dtype == np.float32
    assert state is not None
    assert state.dtype == np.float32


def test_initial_values(rng: np.random.Generator) -> None:
    parameters = build(rng).parameters
    R, b = parameters["layer0.forward.R"], parameters["layer0.forward.b"]
    for gate in range(4):
        block = R[gate * 4 : gate * 4 + 4]
        np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-12)
    np.testing.assert_array_equal(b, np.repeat([0.0, 1.0, 0.0, 0.0], 4))


def test_parameters_cannot_be_written(rng: np.random.Generator) -> None:
    network = build(rng)
    with pytest.raises(ValueError, match="read-only"):
        network.parameters["head.V"][0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        network.parameters.flat[0] = 1


def test_the_spec_survives_json(cell: CellFields) -> None:
    encoder = NetworkSpec.from_dict({**cell, "input_size": 5, "output_size": 0, "embedding_size": 2})
    spec = NetworkSpec.from_dict(
        {
            **cell,
            "input_size": 6,
            "output_size": 6,
            "embedding_size": 2,
            "call_shape": "encoder_decoder",
            "encoder": encoder.to_dict(),
        }
    )
    assert NetworkSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "elman"}, "cell: expected one of rnn, lstm, gru, got 'elman'"),
        ({"hidden_size": 0}, "hidden_size: expected at least 1, got 0"),
        ({"activation": "relu"}, "relu is for the rnn cell"),
        ({"residual": True, "output_size": 9}, "output_size <= input_size"),
        ({"call_shape": "encoder_decoder"}, "encoder: expected exactly with"),
        ({"depth": 2}, "unknown field 'depth'"),
    ],
)
def test_specs_that_make_no_sense(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSpec.from_dict({"input_size": 3, "output_size": 2, **fields})


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 3), {}, r"x: expected shape \[T, B, 3\], got \(4, 3\)"),
        ((4, 2, 5), {}, r"x: expected shape \[T, B, 3\], got \(4, 2, 5\)"),
        ((0, 2, 3), {}, "at least one step and one row"),
        ((4, 0, 3), {}, "at least one step and one row"),
        ((4, 2, 3), {"lengths": [4, 5]}, "lengths: expected 1 to 4, got 4 to 5"),
        ((4, 2, 3), {"lengths": [0, 4]}, "lengths: expected 1 to 4, got 0 to 4"),
        ((4, 2, 3), {"lengths": [4]}, "lengths: expected 2 integers"),
        ((4, 2, 3), {"state": np.zeros((2, 7))}, r"state: expected shape \(2, 8\), got \(2, 7\)"),
    ],
)
def test_wrong_inputs_are_named(
    shape: tuple[int, ...], options: dict[str, Any], message: str, rng: np.random.Generator
) -> None:
    with pytest.raises(ValueError, match=message):
        build(rng).run(np.zeros(shape), **options)


def test_what_is_no_number_is_named(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="x: expected numbers, got <U1"):
        build(rng).run(np.full((2, 1, 3), "a"))
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got int64"):
        build(rng, np.int64)


@pytest.mark.parametrize("dtype", [np.float64, np.dtype(np.float64), "float64"])
def test_the_dtype_asked_for_is_that_of_the_network(dtype: npt.DTypeLike, rng: np.random.Generator) -> None:
    assert build(rng, dtype).dtype == np.float64
    single = build(rng, np.float32)
    assert Network(single.spec, single.parameters, dtype=dtype).dtype == np.float64


def test_tokens_outside_the_vocabulary(rng: np.random.Generator) -> None:
    network = build(rng, embedding_size=2)
    for token in (-1, 3):
        with pytest.raises(ValueError, match=f"expected tokens 0 to 2, got {token}"):
            network.run(np.array([[0], [token]]))
    # Past a row's end any number is accepted.
    network.run(np.array([[0, 1], [2, 99]]), [2, 1])


def test_no_state_for_bidirectional_networks(rng: np.random.Generator) -> None:
    network = build(rng, bidirectional=True)
    assert network.spec.state_parts() == []
    with pytest.raises(ValueError, match="keeps no state"):
        network.run(np.zeros((2, 1, 3)), state=np.zeros((1, 16)))
