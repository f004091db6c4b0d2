"""Compares the output of `statewise generate` with the values that the client gives."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.cli.command import statewise

from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import server_in_thread

WORDS = {"separator": "", "case": "lower", "unknown": None, "begin": None, "end": 0, "pad": None}


def network(**fields: Any) -> Network:
    return Network.initialise(NetworkSpec(hidden_size=6, **fields), rng=np.random.default_rng(3))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with untrained models: `letters` writes text, `wave` numbers, `speech` encodes and decodes."""
    repository = tmp_path_factory.mktemp("generative")
    text: dict[str, Any] = {"embedding_size": 4, "head": "softmax"}
    letters = network(input_size=7, output_size=5, call_shape="one_to_many", **text)
    tokens = ["<end>", *"abcd", "<x>", "<y>"]
    export_checkpoint(
        Checkpoint(
            network=letters, vocabulary={**WORDS, "tokens": tokens, "conditions": {"<x>": 5, "<y>": 6}}
        ),
        repository,
        name="letters",
    )
    export_checkpoint(Checkpoint(network=network(input_size=2, output_size=2)), repository, name="wave")
    encoder = NetworkSpec(input_size=5, output_size=0, hidden_size=6, embedding_size=3)
    speech = network(input_size=6, output_size=5, call_shape="encoder_decoder", encoder=encoder, **text)
    vocabulary: dict[str, Any] = {
        "source": {**WORDS, "tokens": ["<end>", *"pqrs"], "conditions": {}},
        "target": {
            **WORDS,
            "tokens": ["<end>", "AH", "EE", "OO", "SH", "<begin>"],
            "separator": " ",
            "case": "",
            "begin": 5,
            "conditions": {},
        },
    }
    export_checkpoint(Checkpoint(network=speech, vocabulary=vocabulary), repository, name="speech")
    with server_in_thread(repository) as address:
        yield address


def test_a_text_is_printed_on_one_line(target: str) -> None:
    asked = ("--prompt", "AB", "--condition", "y", "--steps", "9", "--seed", "4", "--temperature", "0.8")
    done = statewise("generate", "--target", target, "--model", "letters", *asked, "--top-k", "3")
    with Client(target) as client:
        texts = client.generate(
            "letters", prompt="ab", condition="<y>", steps=9, seed=4, temperature=0.8, top_k=3
        )
        assert (done.code, done.out) == (0, "".join(texts) + "\n"), done.err
    assert done.err == ""


def test_values_are_arrays_a_line(target: str) -> None:
    asked = ("--prompt", "[[1, 2], [3, 4]]", "--steps", "5")
    done = statewise("generate", "--target", target, "--model", "wave", *asked)
    with Client(target) as client:
        expected = list(client.generate("wave", prompt=[[1, 2], [3, 4]], steps=5))
    printed = [json.loads(line) for line in done.out.splitlines()]
    np.testing.assert_array_equal(np.array(printed, np.float32), np.stack(expected))
    whole = statewise("generate", "--target", target, "--model", "wave", *asked, "--json").json
    assert (whole["model"], whole["version"], whole["seed"]) == ("wave", 1, 0)
    assert whole["values"] == printed


def test_an_encoder_decoder_goes_on_to_its_end(target: str) -> None:
    asked = ("--model", "speech", "--condition", "PQR", "--temperature", "0", "--json")
    done = statewise("generate", "--target", target, *asked)
    with Client(target) as client:
        assert done.json["text"] == client.predict("speech", "pqr")


def test_mistakes_are_one_line(target: str) -> None:
    run = ("generate", "--target", target, "--steps", "3", "--model")
    assert "expected symbols of a b c d; got 'z'" in statewise(*run, "letters", "--prompt", "z").complaint
    assert "nothing" in statewise(*run, "nothing").complaint
    assert statewise(*run, "wave", "--prompt", "text").code == 2
