"""Checks which tokens generation draws, when rows end, and that cutting and batching change nothing."""

import numpy as np
import pytest

from statewise.models import (
    Checkpoint,
    Network,
    NetworkSpec,
    Normalisation,
    draw_tokens,
    generate_tokens,
    generate_values,
    uniform_numbers,
)


@pytest.fixture
def network(rng: np.random.Generator) -> Network:
    spec = NetworkSpec(input_size=7, output_size=6, hidden_size=5, layers=2, embedding_size=3, head="softmax")
    shapes = spec.parameter_shapes()
    # Large weights, so that outputs differ from step to step.
    return Network(spec, {n: 2 * rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()})


def prompted(network: Network, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    y, state = network.run(np.array([tokens]))
    assert state is not None
    return state, y[0]


def test_tokens_are_the_inverse_of_the_cumulative_distribution() -> None:
    p = np.array([[0.5, 0.25, 0.25]] * 4, np.float32)
    np.testing.assert_array_equal(draw_tokens(p, np.array([0.0, 0.499, 0.5, 0.999])), [0, 0, 1, 2])


def test_temperature_and_top_k_by_row() -> None:
    p = np.array([[0.2, 0.5, 0.3]] * 4, np.float32)
    u = np.array([0.99, 0.99, 0.99, 0.1])
    tokens = draw_tokens(p, u, temperature=[0, 1, 1, 1], top_k=[0, 0, 1, 2])
    np.testing.assert_array_equal(tokens, [1, 2, 1, 1])
    # Heat makes equal: at a high temperature every third of the numbers is a token.
    hot = draw_tokens(p[:3], np.array([0.3, 0.5, 0.7]), temperature=1e4)
    np.testing.assert_array_equal(hot, [0, 1, 2])
    cold = draw_tokens(p[:2], np.array([0.01, 0.99]), temperature=0.01)
    np.testing.assert_array_equal(cold, [1, 1])


def test_no_token_without_weight_is_ever_drawn() -> None:
    p = np.array([[0.0, 1 / 3, 2 / 3, 0.0]], np.float32)
    largest = np.nextafter(np.float32(1), np.float32(0))
    assert draw_tokens(p, np.array([0.0]))[0] == 1
    assert draw_tokens(p, np.array([largest]))[0] == 2


def test_frequencies_follow_the_probabilities() -> None:
    p = np.array([0.1, 0.6, 0.3], np.float32)
    tokens = draw_tokens(np.tile(p, (4000, 1)), uniform_numbers(5, 0, 4000))
    np.testing.assert_allclose(np.bincount(tokens) / 4000, p, atol=0.03)


def test_uniform_numbers_are_the_documented_hash() -> None:
    # SplitMix64 from seed 0 begins with 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4.
    expected = [(0xE220A8397B1DCDAF >> 40) / 2**24, (0x6E789E6AA1B965F4 >> 40) / 2**24]
    np.testing.assert_array_equal(uniform_numbers(0, 0, 2), np.array(expected, np.float32))
    whole = uniform_numbers(2**64 - 3, 0, 10)
    np.testing.assert_array_equal(
        whole, np.concatenate([uniform_numbers(2**64 - 3, 0, 4), uniform_numbers(2**64 - 3, 4, 6)])
    )


def test_generating_in_parts_equals_generating_at_once(network: Network) -> None:
    state, last = prompted(network, [6])
    numbers = uniform_numbers(3, 0, 12)[:, None]
    whole = generate_tokens(network, state, last, numbers)
    first = generate_tokens(network, state, last, numbers[:5])
    second = generate_tokens(network, first.state, first.last, numbers[5:])
    np.testing.assert_array_equal(np.concatenate([first.tokens, second.tokens]), whole.tokens)
    np.testing.assert_allclose(second.state, whole.state, atol=1e-6)
    assert len(np.unique(whole.tokens)) > 2


def test_the_state_has_consumed_what_was_emitted(network: Network) -> None:
    state, last = prompted(network, [6])
    made = generate_tokens(network, state, last, uniform_numbers(3, 0, 6)[:, None])
    read, _ = prompted(network, [6])
    _, after = network.run(made.tokens, None, read)
    assert after is not None
    np.testing.assert_allclose(made.state, after, atol=1e-6)


def test_rows_do_not_depend_on_their_neighbours(network: Network) -> None:
    starts = [prompted(network, [token]) for token in (6, 1, 4)]
    numbers = np.stack([uniform_numbers(seed, 0, 8) for seed in (1, 2, 3)], axis=1)
    heat, k = np.array([0.0, 1.0, 2.0]), np.array([0, 2, 0])
    together = generate_tokens(
        network,
        np.concatenate([state for state, _ in starts]),
        np.concatenate([last for _, last in starts]),
        numbers,
        temperature=heat,
        top_k=k,
    )
    for row, (state, last) in enumerate(starts):
        alone = generate_tokens(
            network, state, last, numbers[:, row : row + 1], temperature=heat[row], top_k=k[row]
        )
        np.testing.assert_array_equal(alone.tokens[:, 0], together.tokens[:, row])


def test_a_row_ends_on_its_stop_token_or_on_its_own_count(network: Network) -> None:
    state, last = prompted(network, [6])
    numbers = uniform_numbers(3, 0, 10)[:, None]
    free = generate_tokens(network, state, last, numbers).tokens[:, 0]
    stop = int(free[4])
    end = int(np.flatnonzero(free == stop)[0])
    stopped = generate_tokens(network, state, last, numbers, stop=stop)
    np.testing.assert_array_equal(stopped.tokens[:, 0], free[: end + 1])
    assert not stopped.alive[0]
    # The stop token was emitted, not consumed.
    before = generate_tokens(network, state, last, numbers[:end])
    np.testing.assert_allclose(stopped.state, before.state, atol=1e-6)

    two = np.repeat(state, 2, axis=0), np.repeat(last, 2, axis=0)
    counted = generate_tokens(network, *two, np.repeat(numbers, 2, axis=1), remaining=[2, 5])
    assert counted.tokens.shape == (5, 2)
    np.testing.assert_array_equal(counted.tokens[:, 0], [*free[:2], -1, -1, -1])
    np.testing.assert_array_equal(counted.tokens[:, 1], free[:5])
    short = generate_tokens(network, state, last, numbers[:2])
    np.testing.assert_allclose(counted.state[:1], short.state, atol=1e-6)


def test_no_row_alive_emits_nothing(network: Network) -> None:
    state, last = prompted(network, [6])
    nothing = generate_tokens(network, state, last, np.zeros((3, 1), np.float32), remaining=[0])
    assert nothing.tokens.shape == (0, 1)


def test_a_forecast_goes_on_in_raw_units(rng: np.random.Generator) -> None:
    spec = NetworkSpec(input_size=2, output_size=2, hidden_size=4, residual=True)
    series = (50 + 10 * rng.standard_normal((20, 2))).astype(np.float32)
    checkpoint = Checkpoint(
        network=Network.initialise(spec, rng=rng), normalisation=Normalisation.of_series(series)
    )
    y, state = checkpoint.predict(series[:, None])
    assert state is not None
    values, end, last = generate_values(checkpoint, state, y[-1], 6)
    np.testing.assert_array_equal(values[0], y[-1])
    whole, whole_end = checkpoint.predict(np.concatenate([series[:, None], values]))
    assert whole_end is not None
    np.testing.assert_allclose(whole[19:25], values, rtol=1e-5)
    np.testing.assert_allclose(last, whole[-1], rtol=1e-5)
    np.testing.assert_allclose(end, whole_end, atol=1e-5)


def test_networks_that_cannot_generate_say_so(rng: np.random.Generator) -> None:
    network = Network.initialise(NetworkSpec(input_size=2, output_size=2), rng=rng)
    with pytest.raises(ValueError, match="embedding and a softmax head"):
        generate_tokens(network, np.zeros((1, 128)), np.zeros((1, 2)), np.zeros((1, 1)))
    final = Network.initialise(NetworkSpec(input_size=2, output_size=2, call_shape="many_to_one"), rng=rng)
    with pytest.raises(ValueError, match="outputs are its next inputs"):
        generate_values(Checkpoint(network=final), np.zeros((1, 128)), np.zeros((1, 2)), 1)
