"""Translates text to tokens and back: by the codec alone, and through Generate and Predict."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect
from tests.helpers.generation import SamplingColumns, generate, oracle_of

from statewise.service.inputs._text import Codec, TextError, TextWriter
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.v1.tensor_pb2 import TextRows
from statewise.wire import (
    METADATA_KEY,
    ModelSpec,
    Vocabulary,
    from_tensor,
    pack_uint32,
    to_tensor,
    unpack_uint32,
)

LETTERS = Vocabulary(
    ("<end>", "a", "b", "ab", "c", "<x>", "<y>"), case_folding="lower", end=0, conditions={"<x>": 5, "<y>": 6}
)
SOUNDS = Vocabulary(("<end>", "AH", "L", "<begin>"), separator=" ", begin=3, end=0)
UNKNOWN = Vocabulary(("a", "b", "?", "_"), unknown=2, pad=3)


@pytest.mark.parametrize(
    ("vocabulary", "text", "tokens"),
    [
        (LETTERS, "", []),
        (LETTERS, "CaB", [4, 3]),  # the longest token first
        (LETTERS, "ba", [2, 1]),
        (SOUNDS, "AH L AH", [1, 2, 1]),
        (SOUNDS, " AH  L ", [1, 2]),
        (UNKNOWN, "aXb_", [0, 2, 1, 2]),  # the pad token has no text
        (UNKNOWN, "", []),
        (UNKNOWN, "\U0001f600a", [2, 0]),
        (Vocabulary(("é", "ß", "z"), case_folding="lower"), "ZÉ", [2, 0]),
    ],
)
def test_text_becomes_tokens(vocabulary: Vocabulary, text: str, tokens: list[int]) -> None:
    assert Codec(vocabulary).read(text).tolist() == tokens


@pytest.mark.parametrize(
    ("vocabulary", "text", "words"),
    [
        (LETTERS, "a<end>", "expected symbols of a b ab c; got '<'"),
        (LETTERS, "<x>", "got '<'"),
        (SOUNDS, "AHL", "expected symbols of AH L; got 'AHL'"),
        (SOUNDS, "ah", "got 'ah'"),
        (SOUNDS, "<begin>", "got '<begin>'"),
    ],
)
def test_a_symbol_without_a_token_is_named(vocabulary: Vocabulary, text: str, words: str) -> None:
    with pytest.raises(TextError) as failure:
        Codec(vocabulary).read(text)
    assert words in str(failure.value)


def test_long_vocabularies_are_not_listed_whole() -> None:
    codec = Codec(Vocabulary(tuple(f"t{number}" for number in range(5_000)), separator=" "))
    with pytest.raises(TextError) as failure:
        codec.read("x" * 10_000)
    assert len(str(failure.value)) < 400


def test_conditions_have_names_with_or_without_brackets() -> None:
    codec = Codec(LETTERS)
    assert [codec.condition(name) for name in ("x", "<y>")] == [5, 6]
    assert codec.begin == 5
    with pytest.raises(TextError, match="has '<x>', '<y>'; got 'z'"):
        codec.condition("z")
    with pytest.raises(TextError, match="which has none"):
        Codec(SOUNDS).condition("x")


@given(st.lists(st.sampled_from([1, 2, 3, 4]), max_size=12))
def test_what_is_written_is_read_as_the_same_text(tokens: list[int]) -> None:
    codec = Codec(LETTERS)
    text = "".join(codec.write(np.array(tokens, np.int64)))
    assert "".join(codec.write(codec.read(text))) == text


@given(st.lists(st.lists(st.sampled_from([0, 1, 2]), max_size=4), max_size=6))
def test_pieces_joined_are_the_text(pieces: list[list[int]]) -> None:
    codec = Codec(SOUNDS)
    writer = TextWriter.of(codec, 1)
    assert writer is not None
    joined = "".join(writer.add(0, np.array(piece, np.int64)) for piece in pieces)
    assert joined == " ".join(codec.write(np.array(sum(pieces, start=[]), np.int64)))  # noqa: RUF017


@pytest.mark.parametrize("model", ["letters", "letters_outside"])
async def test_prompts_of_text_are_prompts_of_tokens(caller: Caller, model: str) -> None:
    settings = SamplingColumns(seed=[1, 2, 3])
    texts = ["", "Abc", "ffe"]
    prompts = [[8], [8, 1, 2, 3], [8, 6, 6, 5]]
    said = await generate(
        caller,
        model,
        rows=3,
        steps=9,
        settings=settings,
        condition_text=TextRows(rows=["y"]),
        prompt_text=TextRows(rows=texts),
    )
    assert said.values == {
        row: oracle_of(model).tokens(prompt, 9, settings, row) for row, prompt in enumerate(prompts)
    }
    letters = "-abcdef"
    assert said.text == {
        row: "".join(letters[token] for token in tokens if token) for row, tokens in said.values.items()
    }


async def test_without_a_condition_text_begins_with_the_first(caller: Caller) -> None:
    settings = SamplingColumns(seed=[6])
    said = await generate(
        caller, "letters", rows=1, steps=9, settings=settings, prompt_text=TextRows(rows=["ab"])
    )
    assert said.values[0] == oracle_of("letters").tokens([7, 1, 2], 9, settings, 0)
    tensors = await generate(
        caller,
        "letters",
        rows=2,
        steps=9,
        settings=settings,
        prompt={"x": to_tensor(np.array([1, 2], np.int32))},
        prompt_lengths=pack_uint32([2, 0]),
    )
    assert tensors.values == {
        0: oracle_of("letters").tokens([1, 2], 9, settings, 0),
        1: oracle_of("letters").tokens([7], 9, settings, 0),
    }


async def test_texts_are_whole_sequences_too(caller: Caller) -> None:
    """Predict puts the begin token in front, and gives what it gives for the tokens."""
    request = pb.PredictRequest(model="letters", text=TextRows(rows=["ab", "a!", "fedc"]))
    rows: dict[int, Array] = {}
    errors = []
    async for response in caller.sequences.Predict(request):
        errors += [(error.row, error.reason) for error in response.errors]
        lengths = unpack_uint32(response.lengths)
        if len(lengths):
            pieces = np.split(from_tensor(response.outputs["y"]), np.cumsum(lengths)[:-1])
            rows.update(zip(unpack_uint32(response.rows).tolist(), pieces, strict=True))
    assert errors == [(1, "BAD_TENSOR")]
    for row, tokens in ((0, [7, 1, 2]), (2, [7, 6, 5, 4, 3])):
        y, _ = oracle_of("letters").network.run(np.array(tokens, np.int32)[:, None])
        np.testing.assert_allclose(rows[row], y[:, 0], atol=1e-5)


@pytest.mark.parametrize("model", ["speech", "speech_outside"])
async def test_an_encoder_that_was_trained_with_end_tokens_reads_them(
    generative: Path, tmp_path: Path, model: str
) -> None:
    shutil.copytree(generative / model, tmp_path / model)
    path = tmp_path / model / "1" / "model.onnx"
    graph = onnx.load(path)
    (entry,) = (entry for entry in graph.metadata_props if entry.key == METADATA_KEY)
    spec = ModelSpec.from_json(entry.value)
    assert spec.encode is not None
    entry.value = replace(spec, encode=replace(spec.encode, append_end=True)).to_json()
    onnx.save(graph, path)
    texts = pb.PredictRequest(model=model, text=TextRows(rows=["pqs", "t"]))
    ended = [1, 2, 4, 0, 5, 0]
    tokens = pb.PredictRequest(
        model=model, lengths=pack_uint32([4, 2]), inputs={"x": to_tensor(np.array(ended, np.int32))}
    )
    async with running_server(tmp_path) as address, connect(address) as caller:
        by_text, by_tokens = [
            {
                row: text
                async for answer in caller.sequences.Predict(request)
                for row, text in zip(unpack_uint32(answer.rows).tolist(), answer.text.rows, strict=True)
            }
            for request in (texts, tokens)
        ]
        without = [
            text
            async for answer in caller.sequences.Predict(
                pb.PredictRequest(
                    model=model,
                    lengths=pack_uint32([3]),
                    inputs={"x": to_tensor(np.array([1, 2, 4], np.int32))},
                )
            )
            for text in answer.text.rows
        ]
    assert by_text == by_tokens
    assert by_text[0] != without[0]
