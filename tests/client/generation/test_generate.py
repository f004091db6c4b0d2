"""Generates without a session through both clients; the training side is the oracle."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.generation.oracle import X, Y, answer, find_seed, spell
from tests.client.relay import Relay
from tests.helpers.models.generative import LETTERS, checkpoint_of

from statewise.client import Client, InvalidInput, Timeout
from statewise.models import (
    generate_values,
)


@pytest.mark.parametrize("ended", [False, True])
def test_texts_joined_are_the_text(client: Client, ended: bool) -> None:
    seed = find_seed(12, ended=ended)
    assert "".join(client.generate("letters", steps=12, seed=seed)) == spell(
        answer("letters", [X], 12, seed=seed)
    )


def test_prompt_condition_and_settings_are_those_asked_for(client: Client) -> None:
    asked: dict[str, Any] = {"temperature": 0.8, "top_k": 3, "seed": 11}
    texts = client.generate("letters", prompt="BAD", condition="y", steps=9, **asked)
    assert "".join(texts) == spell(answer("letters", [Y, 2, 1, 4], 9, **asked))
    greedy = client.generate("letters", prompt="bad", steps=9, temperature=0)
    assert "".join(greedy) == spell(answer("letters", [X, 2, 1, 4], 9, temperature=0))


def test_tokens_come_where_they_are_asked_for_or_went_in(client: Client) -> None:
    seed = find_seed(12, ended=True)
    expected = answer("letters", [X], 12, seed=seed)
    assert [int(token) for token in client.generate("letters", steps=12, seed=seed, text=False)] == expected
    assert expected[-1] == 0
    tokens = client.generate("letters", prompt=np.array([X, 2]), steps=5)
    assert [int(token) for token in tokens] == answer("letters", [X, 2], 5)
    assert "".join(client.generate("letters", prompt=[X, 2], steps=5, text=True)) == spell(
        answer("letters", [X, 2], 5)
    )


def test_without_steps_a_model_without_a_limit_emits_100_values(client: Client) -> None:
    tokens = list(client.generate("chatter", text=False, seed=3))
    assert [int(token) for token in tokens] == answer("chatter", [X], 100, seed=3)
    with client.session("chatter") as session:
        assert [int(token) for token in session.generate(text=False, seed=3)] == list(map(int, tokens))


def test_real_values_are_fed_back(client: Client) -> None:
    prompt = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    values = np.stack(list(client.generate("wave", prompt=prompt, steps=10)))
    wave = checkpoint_of("wave")
    y, state = wave.predict(prompt[:, None])
    assert y is not None
    assert state is not None
    expected, _, _ = generate_values(wave, state, y[-1], 10)
    np.testing.assert_allclose(values, expected[:, 0], atol=1e-5)


def test_a_state_that_is_the_models_own_is_nothing_to_generate_from(client: Client) -> None:
    with client.session("wave") as session:
        state = session.state()
    with pytest.raises(InvalidInput, match="or a state; got the model's own initial state at position 0"):
        list(client.generate("wave", state=state, steps=3))
    assert len(list(client.generate("wave", state=state, position=1, steps=3))) == 3


@pytest.mark.parametrize(
    ("model", "asked", "message"),
    [
        ("letters", {"prompt": "axe"}, "expected symbols of a b c d e f; got 'x'"),
        (
            "letters",
            {"condition": "z"},
            "expected a condition of the model, which has '<x>', '<y>'; got 'z'",
        ),
        ("letters", {"prompt": np.zeros((2, 2, 2), np.int32)}, r"got int32 of shape \[2, 2, 2\]"),
        ("letters", {"prompt": [[1], [2, 3]]}, "prompt: expected one sequence; got a batch of 2"),
        ("letters", {"condition": [X, X]}, "condition: expected one time step; got 2"),
        ("wave", {}, "nothing to generate from: expected a prompt, a condition or a state"),
        ("wave", {"prompt": "a"}, "no vocabulary"),
        ("wave", {"text": True}, "has no vocabulary: expected text=False"),
        ("speech", {}, "the encoder's input is missing: expected 'x' as the condition"),
        ("speech", {"condition": "z"}, "expected symbols of p q r.*; got 'z'"),
        ("letters", {"prompt": [9], "text": False}, "expected tokens from 0 to 8; got 9"),
    ],
)
def test_what_does_not_fit_is_named(client: Client, model: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        list(client.generate(model, **{"steps": 3, **asked}))


def test_a_time_that_is_over(client: Client) -> None:
    with pytest.raises(Timeout):
        list(client.generate("chatter", steps=1_000_000, timeout=0.2))


def test_a_connection_that_breaks_gives_no_value_twice(clients: Clients, relay: Relay) -> None:
    values = clients.connect(relay.address).generate("chatter", steps=4_000, seed=5, text=False)
    tokens = [int(token) for token in islice(values, 3)]
    relay.cut()
    tokens += [int(token) for token in values]
    assert tokens == answer("chatter", [X], 4_000, seed=5)


def test_nor_a_letter_of_a_text(clients: Clients, relay: Relay) -> None:
    texts = clients.connect(relay.address).generate("chatter", steps=4_000, seed=5)
    text = next(texts)
    relay.cut()
    assert text + "".join(texts) == spell(answer("chatter", [X], 4_000, seed=5))


@pytest.mark.parametrize("text", [False, True])
def test_a_generation_ends_that_outlives_every_connection(clients: Clients, address: str, text: bool) -> None:
    steps = 6_000
    expected = answer("chatter", [X, 2, 1, 4], steps, seed=5)
    relay = Relay(address, reply_bytes=10_000)  # the values alone are more than twice as many bytes
    client = clients.connect(relay.address)
    try:
        values = list(client.generate("chatter", prompt="bad", steps=steps, seed=5, text=text, timeout=100))
    finally:
        client.close()
        relay.close()
    assert relay.accepted >= 3
    if text:
        assert "".join(values) == spell(expected)
    else:
        assert [int(token) for token in values] == expected


def test_values_that_the_caller_changes_are_not_sent_back(clients: Clients, address: str) -> None:
    prompt = np.ones((2, 3), np.float32)
    expected = np.stack(list(clients.connect(address).generate("wave", prompt=prompt, steps=3_000)))
    relay = Relay(address, reply_bytes=25_000)
    client = clients.connect(relay.address)
    values = []
    try:
        for value in client.generate("wave", prompt=prompt, steps=3_000, timeout=100):
            values.append(value.copy())
            value[:] = 7
    finally:
        client.close()
        relay.close()
    assert relay.accepted >= 2
    np.testing.assert_array_equal(np.stack(values), expected)


def test_model_information_tells_how_to_ask(client: Client) -> None:
    models: dict[str, Any] = {model.name: model for model in client.models()}
    assert models["letters"].vocabulary.tokens == tuple(LETTERS)
    assert models["letters"].vocabulary.conditions == {"<x>": X, "<y>": Y}
    assert models["letters"].emitted.dtype in ("int32", "int64")
    assert models["wave"].emitted.shape == (3,)
    assert models["speech"].encoder_vocabulary.tokens[1:] == tuple("pqrst")
    assert models["speech"].predicted.inputs == models["speech"].encoder_inputs
    assert models["wave"].predicted is models["wave"]
