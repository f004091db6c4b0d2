"""Sessions, predictions and generations of networks that learned their initial state begin in it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.export.checkpoints import TEXT_GENERATOR, VOCABULARY, make_checkpoint, make_encoder_decoder

from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, generate_tokens
from statewise.models.base import Array
from statewise.service.testing import server_in_thread

CHECKPOINTS: dict[str, Checkpoint] = {
    "stepped": make_checkpoint(layers=2, learn_initial_state=True),
    "host_loop": make_checkpoint(
        input_size=3, output_size=3, same_units=True, residual=True, learn_initial_state=True
    ),
    "both_ways": make_checkpoint(bidirectional=True, call_shape="many_to_one", learn_initial_state=True),
    "text": replace(make_checkpoint(**TEXT_GENERATOR, learn_initial_state=True), vocabulary=VOCABULARY),
    "speech": make_encoder_decoder(learned=True),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("learned")
    for name, checkpoint in CHECKPOINTS.items():
        export_checkpoint(checkpoint, root, name=name)
    with server_in_thread(root) as address, Client(address) as client:
        yield client


def drawn(model: str, *axes: int) -> Array:
    size = CHECKPOINTS[model].network.spec.input_size
    return np.random.default_rng(1).standard_normal((*axes, size)).astype(np.float32)


def assert_begins(model: str, found: Array, x: Array) -> None:
    """Compares outputs with the network's own, which must differ from those that begin with zeros."""
    checkpoint = CHECKPOINTS[model]
    expected, _ = checkpoint.predict(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if checkpoint.network.spec.streamable:
        zeros = np.zeros((x.shape[1], checkpoint.network.spec.state_size), np.float32)
        assert np.abs(checkpoint.predict(x, None, zeros)[0][0] - expected[0]).max() > 1e-3


@pytest.mark.parametrize("model", ["stepped", "host_loop"])
def test_the_first_step_starts_from_the_learned_state(client: Client, model: str) -> None:
    x = drawn(model, 6, 3)
    with client.session(model) as session:
        alone = np.stack([session.step(step) for step in x[:, 0]])
    with client.sessions(model, count=3) as group:
        together = np.stack([group.step(step) for step in x])
    assert_begins(model, alone[:, None], x[:, :1])
    assert_begins(model, together, x)
    np.testing.assert_array_equal(together[:, 0], alone)


def test_the_state_of_a_new_session_is_the_learned_one(client: Client) -> None:
    network = CHECKPOINTS["stepped"].network
    with client.session("stepped") as session:
        parts = session.state()
    for name, offset, size in network.spec.state_parts():
        np.testing.assert_array_equal(parts[name], network.initial_state[offset : offset + size])


@pytest.mark.parametrize("model", ["stepped", "both_ways"])
def test_predictions_start_from_the_learned_state(client: Client, model: str) -> None:
    x = drawn(model, 6, 3)
    rows = client.predict(model, list(x.swapaxes(0, 1)))
    assert_begins(model, np.stack(rows, axis=0 if model == "both_ways" else 1), x)


def test_generated_text_starts_from_the_learned_state(client: Client) -> None:
    begin = VOCABULARY["conditions"]["<x>"]
    expected = greedy("text", begin, None)
    found = client.generate("text", condition="<x>", steps=8, temperature=0, text=False)
    assert list(found) == expected
    with client.session("text") as session:
        session.step(begin)
        assert list(session.generate(steps=8, temperature=0, text=False)) == expected


def test_an_encoder_starts_from_the_learned_state(client: Client) -> None:
    source = np.array([1, 4, 2], np.int32)
    expected = greedy("speech", 7, CHECKPOINTS["speech"].network.encode(source[:, None]))
    with client.session("speech", condition=source) as session:
        assert list(session.generate(steps=8, temperature=0, text=False)) == expected


def greedy(model: str, begin: int, state: Array | None) -> list[int]:
    """The eight likeliest tokens after a begin token, fewer where the text ends."""
    network = CHECKPOINTS[model].network
    y, after = network.run(np.array([[begin]], np.int32), None, state)
    assert after is not None
    unused = np.zeros((8, 1), np.float32)
    tokens = generate_tokens(network, after, y[0], unused, temperature=0, stop=0).tokens
    return [int(token) for token in tokens[:, 0] if token >= 0]
