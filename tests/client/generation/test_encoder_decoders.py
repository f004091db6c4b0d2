"""Encodes conditions and generates from them through both clients."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.generation.oracle import tokens_of
from tests.client.restarts import RestartableServer
from tests.helpers.models.generative import SOUNDS, checkpoint_of

from statewise.client import Client, InvalidInput, PartialFailure, SessionLost
from statewise.export import export_checkpoint
from statewise.service.testing import server_in_thread

SOURCES = ("pqr", "s", "ttttt", "rst")


def test_text_goes_in_and_text_comes_out(client: Client) -> None:
    outputs = client.predict("speech", list(SOURCES))
    assert isinstance(outputs, list)
    for source, output in zip(SOURCES, outputs, strict=True):
        assert set(output.split()) <= set(SOUNDS)
        assert client.predict("speech", source) == output
        streamed = client.generate("speech", condition=source, temperature=0)
        assert "".join(streamed) == output


def test_tokens_go_in_and_tokens_come_out(client: Client) -> None:
    tokens = [tokens_of(source) for source in SOURCES]
    texts = client.predict("speech", list(SOURCES))
    outputs = client.predict("speech", tokens)
    for output, text in zip(outputs, texts, strict=True):
        assert " ".join(SOUNDS[token] for token in output if token) == text
    np.testing.assert_array_equal(client.predict("speech", tokens[0]), outputs[0])


def test_a_text_that_cannot_be_read_fails_alone(client: Client) -> None:
    with pytest.raises(PartialFailure, match=r"got 'z'") as caught:
        client.predict("speech", ["pq", "pzq", "r"])
    assert list(caught.value.errors) == [1]
    assert caught.value.outputs == [client.predict("speech", "pq"), None, client.predict("speech", "r")]


def test_score_takes_texts(client: Client) -> None:
    scored = list(client.score("speech", SOURCES))
    assert [one.outputs for one in scored] == client.predict("speech", list(SOURCES))


def test_a_session_begins_with_what_was_encoded(client: Client) -> None:
    for source in SOURCES:
        with client.session("speech", condition=source) as session:
            text = "".join(session.generate(temperature=0))
            assert text == client.predict("speech", source)


def test_such_a_session_too_comes_back(generative: Path, clients: Clients) -> None:
    with RestartableServer(generative) as server:
        client = clients.connect(server.address)
        expected = list(client.generate("speech", condition="pqr", steps=8, seed=3, text=False))
        with client.session("speech", condition="pqr") as session:
            tokens = list(session.generate(steps=3, seed=3, text=False))
            twin = session.fork()
            server.restart()
            if tokens[-1] != 0:
                tokens += session.generate(steps=5, seed=3, text=False)
            np.testing.assert_array_equal(tokens, expected)
            with pytest.raises(SessionLost):  # the client has no inputs from before the fork
                list(twin.generate(steps=1))


def test_a_new_default_version_is_taken_up(tmp_path: Path, clients: Clients) -> None:
    first = export_checkpoint(checkpoint_of("speech"), tmp_path, name="speech")
    with server_in_thread(tmp_path, repository_poll_s=0.01) as address:
        client = clients.connect(address)

        def version() -> int:
            with client.session("speech", condition="p") as session:
                return int(session.model.version)

        assert version() == 1
        export_checkpoint(checkpoint_of("speech"), tmp_path, name="speech")
        while version() == 1:
            pass
        with client.sessions("speech", count=2, condition="p") as group:
            assert group.model.version == 2
        shutil.rmtree(first)
        while [model.version for model in client.models()] != [2]:
            pass
        assert "".join(client.generate("speech", condition="p", temperature=0))


def test_a_condition_is_for_encoders(client: Client) -> None:
    with pytest.raises(InvalidInput, match="has no encoder"):
        client.session("letters", condition="a").step(0)
    with pytest.raises(InvalidInput, match="encoder's input is missing"):
        client.session("speech").step(0)
    with pytest.raises(InvalidInput, match=r"expected symbols of p q r.*; got 'z'"):
        client.session("speech", condition="z").step(0)
