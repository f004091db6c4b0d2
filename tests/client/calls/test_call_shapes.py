"""Calls models of every call shape: one, a batch, a ragged list; arrays, numbers, texts; labels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from statewise.client import Client, InvalidInput
from statewise.service.testing import server_in_thread

RANDOM = np.random.default_rng(9)
SAMPLES = RANDOM.standard_normal((4, 30)).astype(np.float32)
UTTERANCES = [RANDOM.standard_normal((length, 12)).astype(np.float32) for length in (7, 29, 1, 12)]
WALKS = [RANDOM.standard_normal((length, 9)).astype(np.float32) for length in (5, 40, 1)]


@pytest.fixture(scope="module")
def address(untrained: Path) -> Iterator[str]:
    with server_in_thread(untrained) as address:
        yield address


def test_models_tell_their_call_shape(client: Client) -> None:
    assert {model.name: str(model.call_shapes[0]) for model in client.models()} == {
        "tumour": "one_to_one",
        "names": "one_to_many",
        "vowels": "many_to_one",
        "gait": "many_to_many",
        "g2p": "encoder_decoder",
    }


def test_one_to_one_takes_samples(client: Client) -> None:
    batch = client.predict("tumour", SAMPLES)
    assert batch.shape == (4, 1)
    np.testing.assert_array_equal(client.predict("tumour", SAMPLES[1]), batch[1])
    np.testing.assert_array_equal(client.predict("tumour", list(SAMPLES)), batch)
    np.testing.assert_array_equal(client.predict("tumour", SAMPLES.tolist()), batch)
    with pytest.raises(InvalidInput, match=r"expected float32 \[30\] \(one sample\)"):
        client.predict("tumour", SAMPLES[:, :29])


def test_many_to_one_takes_sequences(client: Client) -> None:
    ragged = client.predict("vowels", UTTERANCES)
    assert [output.shape for output in ragged] == [(9,)] * 4
    for utterance, output in zip(UTTERANCES, ragged, strict=True):
        np.testing.assert_array_equal(client.predict("vowels", utterance), output)
        with client.session("vowels") as session:
            np.testing.assert_array_equal(session.step(utterance), output)
    equal = np.stack([UTTERANCES[0], UTTERANCES[3][:7]])
    assert client.predict("vowels", equal).shape == (2, 9)


def test_many_to_many_gives_an_output_a_step(client: Client) -> None:
    ragged = client.predict("gait", WALKS)
    assert [output.shape for output in ragged] == [(5, 9), (40, 9), (1, 9)]
    with client.session("gait") as session:
        np.testing.assert_array_equal(np.stack(list(session.stream(WALKS[1]))), ragged[1])


def test_one_to_many_is_generated_and_can_be_read(client: Client) -> None:
    text = "".join(client.generate("names", condition="male", steps=9, seed=2))
    tokens = [int(token) for token in client.generate("names", condition="male", steps=9, seed=2, text=False)]
    assert text == "".join(chr(ord("A") + token - 1) for token in tokens if token)
    probabilities = client.predict("names", tokens)
    assert probabilities.shape == (len(tokens), 27)
    [first, second] = client.predict("names", ["MARIA", "jo"])
    assert (len(first), len(second)) == (6, 3)  # the begin token goes first
    np.testing.assert_array_equal(client.predict("names", "maria"), first)


def test_an_encoder_decoder_gives_as_much_as_it_has_to_say(client: Client) -> None:
    words = ["hello", "memory", "a"]
    texts = client.predict("g2p", words)
    tokens = client.predict("g2p", [np.array([ord(letter) - 96 for letter in word]) for word in words])
    assert isinstance(texts, list)
    assert [len(text.split()) for text in texts] == [int(np.count_nonzero(row)) for row in tokens]


def test_labels_come_on_request(client: Client) -> None:
    best = [f"speaker {1 + int(output.argmax())}" for output in client.predict("vowels", UTTERANCES)]
    assert client.predict("vowels", UTTERANCES, labels=True) == best
    assert client.predict("vowels", UTTERANCES[0], labels=True) == best[0]
    assert [scored.outputs for scored in client.score("vowels", UTTERANCES, labels=True)] == best
    assert client.model("vowels").labels[0] == "speaker 1"
    with pytest.raises(InvalidInput, match="labels"):
        client.predict("gait", WALKS[0], labels=True)
