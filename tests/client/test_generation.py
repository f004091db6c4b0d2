"""Generation, encoder-decoders and text through both clients; the training side is the oracle."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statewise.client import AsyncClient, InvalidInput, PartialFailure, SessionLost, Timeout
from statewise.export import export_checkpoint
from statewise.models import (
    Checkpoint,
    Network,
    NetworkSpec,
    generate_tokens,
    generate_values,
    uniform_numbers,
)
from statewise.service.testing import server_in_thread

LETTERS = ("<end>", *"abcdef", "<x>", "<y>")
SOUNDS = ("<end>", "AH", "L", "OW", "K", "S", "T", "<begin>")
WORDS = {"separator": "", "case": "lower", "unknown": None, "begin": None, "end": 0, "pad": None}
X, Y = 7, 8


def network(seed: int, **fields: Any) -> Network:
    """Far enough from its first values that it does not say the same at every step."""
    random = np.random.default_rng(seed)
    fresh = Network.initialise(NetworkSpec(hidden_size=11, **fields), rng=random)
    values = {
        name: (value + 0.6 * random.standard_normal(value.shape)).astype(np.float32)
        for name, value in fresh.parameters.items()
    }
    return Network(fresh.spec, values)


def letters(*, ends: bool) -> Checkpoint:
    made = network(3, input_size=9, output_size=7, embedding_size=4, head="softmax", call_shape="one_to_many")
    if not ends:
        values = {name: np.array(value) for name, value in made.parameters.items()}
        values["head.c"][0] = -50
        made = Network(made.spec, values)
    return Checkpoint(
        network=made, vocabulary={**WORDS, "tokens": list(LETTERS), "conditions": {"<x>": X, "<y>": Y}}
    )


def speech() -> Checkpoint:
    encoder = NetworkSpec(input_size=6, output_size=0, cell="gru", hidden_size=11, embedding_size=3)
    made = network(
        5,
        input_size=8,
        output_size=7,
        embedding_size=4,
        head="softmax",
        cell="gru",
        call_shape="encoder_decoder",
        encoder=encoder,
    )
    source = {**WORDS, "tokens": ["<end>", *"pqrst"], "conditions": {}}
    target = {**WORDS, "tokens": list(SOUNDS), "separator": " ", "case": "", "begin": 7, "conditions": {}}
    return Checkpoint(network=made, vocabulary={"source": source, "target": target})


CHECKPOINTS = {
    "letters": letters(ends=True),
    "chatter": letters(ends=False),
    "wave": Checkpoint(network=network(4, input_size=3, output_size=3)),
    "speech": speech(),
}


@pytest.fixture(scope="module")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generative")
    for name, checkpoint in CHECKPOINTS.items():
        export_checkpoint(checkpoint, root, name=name)
    return root


@pytest.fixture(scope="module")
def address(generative: Path) -> Iterator[str]:
    with server_in_thread(generative) as address:
        yield address


@pytest.fixture
def restartable(generative: Path) -> Callable[..., Any]:
    """Runs a server that can be started anew on the same port with no memory of before."""

    @contextmanager
    def run() -> Iterator[tuple[str, Callable[[], None]]]:
        with ExitStack() as running:
            address = running.enter_context(server_in_thread(generative))

            def restart() -> None:
                running.close()
                running.enter_context(server_in_thread(generative, listen=address))

            yield address, restart

    return run


def said(
    name: str, prompt: list[int], steps: int, *, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> list[int]:
    """Tokens that follow a prompt, its condition or begin token included."""
    model = CHECKPOINTS[name].network
    y, state = model.run(np.array(prompt, np.int32)[:, None])
    numbers = uniform_numbers(seed, len(prompt), steps)
    found = generate_tokens(
        model, state, y[-1], numbers[:, None], temperature=temperature, top_k=top_k, stop=0
    )
    return [int(token) for token in found.tokens[:, 0] if token >= 0]


def spelled(tokens: list[int]) -> str:
    return "".join(LETTERS[token] for token in tokens if token)


def a_seed(steps: int, *, ended: bool) -> int:
    """One with which `letters` has ended by so many values, or has not."""
    return next(seed for seed in range(1000) if (0 in said("letters", [X], steps, seed=seed)) == ended)


class TestWithoutSession:
    @pytest.mark.parametrize("ended", [False, True])
    def test_texts_joined_are_the_text(self, client: Any, ended: bool) -> None:
        seed = a_seed(12, ended=ended)
        assert "".join(client.generate("letters", steps=12, seed=seed)) == spelled(
            said("letters", [X], 12, seed=seed)
        )

    def test_prompt_condition_and_settings_are_those_asked_for(self, client: Any) -> None:
        asked = {"temperature": 0.8, "top_k": 3, "seed": 11}
        texts = client.generate("letters", prompt="BAD", condition="y", steps=9, **asked)
        assert "".join(texts) == spelled(said("letters", [Y, 2, 1, 4], 9, **asked))
        greedy = client.generate("letters", prompt="bad", steps=9, temperature=0)
        assert "".join(greedy) == spelled(said("letters", [X, 2, 1, 4], 9, temperature=0))

    def test_tokens_come_where_they_are_asked_for_or_went_in(self, client: Any) -> None:
        seed = a_seed(12, ended=True)
        expected = said("letters", [X], 12, seed=seed)
        assert [
            int(token) for token in client.generate("letters", steps=12, seed=seed, text=False)
        ] == expected
        assert expected[-1] == 0
        tokens = client.generate("letters", prompt=np.array([X, 2]), steps=5)
        assert [int(token) for token in tokens] == said("letters", [X, 2], 5)
        assert "".join(client.generate("letters", prompt=[X, 2], steps=5, text=True)) == spelled(
            said("letters", [X, 2], 5)
        )

    def test_real_values_are_fed_back(self, client: Any) -> None:
        prompt = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
        values = np.stack(list(client.generate("wave", prompt=prompt, steps=10)))
        model = CHECKPOINTS["wave"].network
        y, state = model.run(prompt[:, None])
        expected, _, _ = generate_values(CHECKPOINTS["wave"], state, y[-1], 10)
        np.testing.assert_allclose(values, expected[:, 0], atol=1e-5)

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
            ("wave", {}, "nothing to generate from: expected a prompt or a condition"),
            ("wave", {"prompt": "a"}, "no vocabulary"),
            ("wave", {"text": True}, "has no vocabulary: expected text=False"),
            ("speech", {}, "the encoder's input is missing: expected 'x' as the condition"),
            ("speech", {"condition": "z"}, "expected symbols of p q r.*; got 'z'"),
            ("letters", {"prompt": [9], "text": False}, "expected tokens from 0 to 8; got 9"),
        ],
    )
    def test_what_does_not_fit_is_named(self, client: Any, model: str, asked: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            list(client.generate(model, **{"steps": 3, **asked}))

    def test_a_time_that_is_over(self, client: Any) -> None:
        with pytest.raises(Timeout):
            list(client.generate("chatter", steps=1_000_000, timeout=0.2))

    def test_a_connection_that_breaks_gives_no_value_twice(self, connect: Any, relay: Any) -> None:
        values = connect(relay.address).generate("chatter", steps=4_000, seed=5, text=False)
        tokens = [int(token) for token in islice(values, 3)]
        relay.cut()
        tokens += [int(token) for token in values]
        assert tokens == said("chatter", [X], 4_000, seed=5)

    def test_nor_a_letter_of_a_text(self, connect: Any, relay: Any) -> None:
        texts = connect(relay.address).generate("chatter", steps=4_000, seed=5)
        text = next(texts)
        relay.cut()
        assert text + "".join(texts) == spelled(said("chatter", [X], 4_000, seed=5))


class TestSessions:
    def test_a_session_goes_on_from_what_it_said(self, client: Any) -> None:
        seed = a_seed(12, ended=False)
        expected = said("letters", [X], 12, seed=seed)
        with client.session("letters") as session:
            tokens = list(session.generate(steps=5, seed=seed, text=False))
            assert session.position == 6  # the begin token, and five values
            twin = session.fork()
            text = "".join(session.generate(steps=7, seed=seed))
            assert session.position == 13
            assert [int(token) for token in tokens] == expected[:5]
            assert text == spelled(expected[5:])
            session.rewind()
            assert session.position == 6
            assert "".join(session.generate(steps=7, seed=seed)) == text
            assert "".join(twin.generate(steps=7, seed=seed)) == text
            twin.close()

    def test_an_end_is_emitted_and_not_consumed(self, client: Any) -> None:
        seed = a_seed(12, ended=True)
        with client.session("letters") as session:
            tokens = list(session.generate(steps=12, seed=seed, text=False))
            assert tokens[-1] == 0
            assert session.position == len(tokens)  # the begin token stands for the end

    def test_steps_and_generations_take_turns(self, client: Any) -> None:
        prompt = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
        with client.session("wave") as session:
            session.step(prompt)
            values = np.stack(list(session.generate(steps=4)))
            after = session.step(prompt[0])
        whole = client.predict("wave", np.concatenate([prompt, values, prompt[:1]]))
        np.testing.assert_array_equal(after, whole[-1])

    def test_a_session_with_nothing_to_go_on_from_is_told_what_to_do(self, client: Any) -> None:
        with client.session("wave") as session, pytest.raises(InvalidInput, match="step it first"):
            list(session.generate(steps=4))

    @pytest.mark.parametrize("taken", [0, 1, 4])
    def test_left_early_it_stands_behind_what_was_taken(self, client: Any, taken: int) -> None:
        seed = a_seed(12, ended=False)
        expected = said("letters", [X], 12, seed=seed)
        with client.session("letters") as session:
            list(session.generate(steps=2, seed=seed))
            values = session.generate(steps=10, seed=seed, text=False)
            first = [int(token) for token in islice(values, taken)]
            values.close()
            assert first == expected[2 : 2 + taken]
            assert session.position == 3 + taken
            rest = session.generate(steps=10 - taken, seed=seed, text=False)
            assert [int(token) for token in rest] == expected[2 + taken :]

    def test_left_in_the_middle_the_server_stops_and_the_session_goes_on(self, client: Any) -> None:
        expected = said("chatter", [X], 60, seed=5)
        with client.session("chatter") as session:
            values = session.generate(steps=1_000_000, seed=5, text=False)
            first = [int(token) for token in islice(values, 50)]
            values.close()
            assert session.position == 51
            rest = [int(token) for token in session.generate(steps=10, seed=5, text=False)]
        assert first + rest == expected

    def test_when_the_time_is_over_it_stands_behind_what_was_taken(self, client: Any) -> None:
        taken: list[Any] = []
        with client.session("chatter") as session:
            session.step(np.int64(X))
            with pytest.raises(Timeout):
                taken.extend(session.generate(steps=1_000_000, timeout=0.2, text=False))
            session.snapshot()
            assert session.position == 1 + len(taken)

    def test_a_connection_that_breaks_gives_no_value_twice(
        self, connect: Any, client: Any, relay: Any
    ) -> None:
        expected = said("chatter", [X], 40, seed=5)
        session = connect(relay.address).session("chatter", id="breaks off")
        tokens = list(session.generate(steps=10, seed=5, text=False))
        relay.hold_replies()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(list, session.generate(steps=30, seed=5, text=False))
            while not any(info.id == "breaks off" and info.position == 41 for info in client.list_sessions()):
                pass
            relay.cut()
            tokens += waiting.result()
        assert [int(token) for token in tokens] == expected
        assert session.position == 41
        session.close()

    def test_a_server_that_lost_it_gets_it_back(self, restartable: Any, connect: Any) -> None:
        expected = said("chatter", [X, 3], 40, seed=5)
        with restartable() as (address, restart):
            session = connect(address).session("chatter")
            session.step(np.int64(X))
            session.step(np.int64(3))
            tokens = list(session.generate(steps=10, seed=5, text=False))
            tokens += islice(session.generate(steps=20, seed=5, text=False), 5)
            restart()
            tokens += session.generate(steps=25, seed=5, text=False)
            assert session.position == 42
        assert [int(token) for token in tokens] == expected

    def test_without_a_journal_it_is_lost(self, restartable: Any, connect: Any) -> None:
        with restartable() as (address, restart):
            session = connect(address, replay_bytes=0).session("chatter")
            list(session.generate(steps=10))
            restart()
            with pytest.raises(SessionLost):
                list(session.generate(steps=10))


class TestEncoderDecoder:
    SOURCES = ("pqr", "s", "ttttt", "rst")

    def test_text_goes_in_and_text_comes_out(self, client: Any) -> None:
        outputs = client.predict("speech", list(self.SOURCES))
        assert isinstance(outputs, list)
        for source, output in zip(self.SOURCES, outputs, strict=True):
            assert set(output.split()) <= set(SOUNDS)
            assert client.predict("speech", source) == output
            streamed = client.generate("speech", condition=source, temperature=0)
            assert "".join(streamed) == output

    def test_tokens_go_in_and_tokens_come_out(self, client: Any) -> None:
        tokens = [np.array(["<end>pqrst".index(letter) - 4 for letter in source]) for source in self.SOURCES]
        texts = client.predict("speech", list(self.SOURCES))
        outputs = client.predict("speech", tokens)
        for output, text in zip(outputs, texts, strict=True):
            assert " ".join(SOUNDS[token] for token in output if token) == text
        np.testing.assert_array_equal(client.predict("speech", tokens[0]), outputs[0])

    def test_a_text_that_cannot_be_read_fails_alone(self, client: Any) -> None:
        with pytest.raises(PartialFailure, match=r"got 'z'") as caught:
            client.predict("speech", ["pq", "pzq", "r"])
        assert list(caught.value.errors) == [1]
        assert caught.value.outputs == [client.predict("speech", "pq"), None, client.predict("speech", "r")]

    def test_score_takes_texts(self, client: Any) -> None:
        scored = list(client.score("speech", self.SOURCES))
        assert [one.outputs for one in scored] == client.predict("speech", list(self.SOURCES))

    def test_a_session_begins_with_what_was_encoded(self, client: Any) -> None:
        for source in self.SOURCES:
            with client.session("speech", condition=source) as session:
                text = "".join(session.generate(temperature=0))
                assert text == client.predict("speech", source)

    def test_such_a_session_too_comes_back(self, restartable: Any, connect: Any) -> None:
        with restartable() as (address, restart):
            client = connect(address)
            expected = list(client.generate("speech", condition="pqr", steps=8, seed=3, text=False))
            with client.session("speech", condition="pqr") as session:
                tokens = list(session.generate(steps=3, seed=3, text=False))
                twin = session.fork()
                restart()
                if tokens[-1] != 0:
                    tokens += session.generate(steps=5, seed=3, text=False)
                np.testing.assert_array_equal(tokens, expected)
                with pytest.raises(SessionLost):  # a fork has not seen what came before it
                    list(twin.generate(steps=1))

    def test_sessions_of_a_group_begin_each_with_its_own(self, client: Any) -> None:
        count = len(self.SOURCES)
        expected = []
        for source in self.SOURCES:
            with client.session("speech", condition=source) as session:
                expected.append(np.stack([session.step(token) for token in (7, 1, 2)]))
        tokens = [np.array(["<end>pqrst".index(letter) - 4 for letter in source]) for source in self.SOURCES]
        for condition in (list(self.SOURCES), tokens):
            with client.sessions("speech", count=count, condition=condition) as group:
                outputs = [group.step(np.full(count, token)) for token in (7, 1, 2)]
                np.testing.assert_array_equal(np.stack(outputs, axis=1), np.stack(expected))
        for one_for_all in (self.SOURCES[0], tokens[0]):
            with client.sessions("speech", count=2, condition=one_for_all) as group:
                np.testing.assert_array_equal(group.step(np.array([7, 7])), [expected[0][0]] * 2)

    def test_such_a_group_too_comes_back(self, restartable: Any, connect: Any) -> None:
        with restartable() as (address, restart):
            client = connect(address)
            sources = list(self.SOURCES)
            whole = client.sessions("speech", count=4, condition=sources).step(np.tile([7, 1, 2], (4, 1)))
            group = client.sessions("speech", count=4, condition=sources)
            outputs = [group.step(np.full(4, 7)), group.step(np.full(4, 1))]
            restart()
            outputs.append(group.step(np.full(4, 2)))
            np.testing.assert_array_equal(np.stack(outputs, axis=1), whole)

    def test_more_conditions_than_a_request_takes(self, generative: Path, connect: Any) -> None:
        with server_in_thread(generative, request_rows=3, request_steps=6) as address:
            client = connect(address)
            sources = list(self.SOURCES) * 2
            with client.sessions("speech", count=8, condition=sources) as group:
                outputs = group.step(np.full(8, 7), timeout=60)
            np.testing.assert_array_equal(outputs[:4], outputs[4:])
            assert len(np.unique(outputs, axis=0)) == 4

    def test_a_condition_that_cannot_be_read_leaves_no_session(self, client: Any) -> None:
        before = len(client.list_sessions())
        with pytest.raises(PartialFailure, match=r"got 'z'") as caught:
            client.sessions("speech", count=3, condition=["pq", "pzq", "r"]).step(np.full(3, 7))
        assert list(caught.value.errors) == [1]
        assert len(client.list_sessions()) == before

    @pytest.mark.parametrize(
        ("model", "condition", "message"),
        [
            ("speech", ["p", "q"], "expected one sequence, or 3, one for each session; got a batch of 2"),
            ("letters", "a", "has no encoder"),
        ],
    )
    def test_conditions_that_do_not_fit_a_group(
        self, client: Any, model: str, condition: Any, message: str
    ) -> None:
        with pytest.raises(InvalidInput, match=message):
            client.sessions(model, count=3, condition=condition).step(np.zeros(3))

    def test_a_new_default_version_is_taken_up(self, tmp_path: Path, connect: Any) -> None:
        first = export_checkpoint(CHECKPOINTS["speech"], tmp_path, name="speech")
        with server_in_thread(tmp_path, repository_poll_s=0.01) as address:
            client = connect(address)

            def version() -> int:
                with client.session("speech", condition="p") as session:
                    return int(session.model.version)

            assert version() == 1
            export_checkpoint(CHECKPOINTS["speech"], tmp_path, name="speech")
            while version() == 1:
                pass
            with client.sessions("speech", count=2, condition="p") as group:
                assert group.model.version == 2
            shutil.rmtree(first)
            while [model.version for model in client.models()] != [2]:
                pass
            assert "".join(client.generate("speech", condition="p", temperature=0))

    def test_a_condition_is_for_encoders(self, client: Any) -> None:
        with pytest.raises(InvalidInput, match="has no encoder"):
            client.session("letters", condition="a").step(0)
        with pytest.raises(InvalidInput, match="encoder's input is missing"):
            client.session("speech").step(0)
        with pytest.raises(InvalidInput, match=r"expected symbols of p q r.*; got 'z'"):
            client.session("speech", condition="z").step(0)


@pytest.mark.parametrize("steps", [20, 1_000_000])
async def test_what_is_asked_after_a_break_comes_after_it(address: str, steps: int) -> None:
    expected = said("chatter", [X], 10, seed=5)
    async with AsyncClient(address) as client, client.session("chatter") as session:
        tokens = []
        async with aclosing(session.generate(steps=steps, seed=5, text=False)) as values:
            async for token in values:
                tokens.append(int(token))
                if len(tokens) == 4:
                    break
        assert session.position == 5
        tokens += [int(token) async for token in session.generate(steps=6, seed=5, text=False)]
    assert tokens == expected


async def test_a_break_alone_is_seen_to_before_what_is_asked_meanwhile(address: str) -> None:
    async with AsyncClient(address) as client, client.session("chatter") as session:
        async for _ in session.generate(steps=1_000_000, text=False):
            break
        twin = await session.fork()
        assert twin.position == session.position == 2
        await twin.close()


def test_model_information_tells_how_to_ask(client: Any) -> None:
    models = {model.name: model for model in client.models()}
    assert models["letters"].vocabulary.tokens == LETTERS
    assert models["letters"].vocabulary.conditions == {"<x>": X, "<y>": Y}
    assert models["letters"].emitted.dtype in ("int32", "int64")
    assert models["wave"].emitted.shape == (3,)
    assert models["speech"].encoder_vocabulary.tokens[1:] == tuple("pqrst")
    assert models["speech"].predicted.inputs == models["speech"].encoder_inputs
    assert models["wave"].predicted is models["wave"]
