"""Serves encoder-decoders: whole sequences by Predict and Generate, and step by step with sessions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.arrays import Floats
from tests.helpers.caller import Caller, connect
from tests.helpers.generation import Generated, SamplingColumns, generate, generate_sessions, oracle_of

from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.v1.tensor_pb2 import TextRows
from statewise.wire import pack_uint32, pack_uint64, to_tensor

MODELS = ["speech", "speech_outside"]
LIMIT, BEGIN = 64, 7
SOUNDS = ["<end>", "AH", "L", "OW", "K", "S", "T"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """A model that generates in the graph, and one that does not."""
    return str(request.param)


def _sources(rows: int) -> list[list[int]]:
    random = np.random.default_rng(rows)
    return [random.integers(1, 6, random.integers(1, 9)).tolist() for _ in range(rows)]


def _encoded(source: list[int]) -> Floats:
    return oracle_of("speech").network.encode(np.array(source, np.int32)[:, None])


def _said(source: list[int], steps: int = LIMIT) -> list[int]:
    """The likeliest tokens, up to the end token or the limit."""
    greedy = SamplingColumns(temperature=[0])
    return list(oracle_of("speech").tokens([BEGIN], steps, greedy, 0, state=_encoded(source)))


def _tensors(sources: list[list[int]]) -> dict[str, Any]:
    return {
        "lengths": pack_uint32([len(source) for source in sources]),
        "inputs": {"x": to_tensor(np.concatenate(sources).astype(np.int32))},
    }


def _text(source: list[int]) -> str:
    return "".join("?pqrst"[token] for token in source)


def _sounds(tokens: list[int]) -> str:
    return " ".join(SOUNDS[token] for token in tokens if token)


async def _predict(caller: Caller, **fields: Any) -> Generated:
    said = Generated()
    async for response in caller.sequences.Predict(pb.PredictRequest(**fields)):
        assert response.version == 1
        said.add(response)
    return said


@pytest.mark.parametrize("rows", [1, 300])
async def test_predict_says_what_the_training_side_says(caller: Caller, model: str, rows: int) -> None:
    sources = _sources(rows)
    said = await _predict(caller, model=model, **_tensors(sources))
    expected = {row: _said(source) for row, source in enumerate(sources)}
    assert said.values == expected
    assert said.text == {row: _sounds(tokens) for row, tokens in expected.items()}
    if rows > 1:
        assert len({len(tokens) for tokens in expected.values()}) > 3


async def test_text_goes_in_and_out(caller: Caller, model: str) -> None:
    sources = _sources(20)
    said = await _predict(
        caller, model=model, text=TextRows(rows=[_text(one).upper() for one in sources] + ["pox"])
    )
    assert said.text == {row: _sounds(_said(one)) for row, one in enumerate(sources)}
    assert said.errors == {20: "BAD_TENSOR"}


@pytest.mark.parametrize("by", ["text", "ragged", "equal"])
async def test_generate_is_conditioned_by_what_the_encoder_reads(caller: Caller, model: str, by: str) -> None:
    sources = _sources(12)
    if by == "equal":
        sources = [(source * 5)[:5] for source in sources]
    conditions: dict[str, dict[str, Any]] = {
        "text": {"condition_text": TextRows(rows=[_text(source) for source in sources])},
        "ragged": {
            "condition": {"x": to_tensor(np.concatenate(sources).astype(np.int32))},
            "condition_lengths": pack_uint32([len(source) for source in sources]),
        },
        "equal": {"condition": {"x": to_tensor(np.array(sources if by == "equal" else [], np.int32))}},
    }
    settings = SamplingColumns(temperature=[0.7], seed=range(12))
    said = await generate(caller, model, rows=12, steps=10, settings=settings, **conditions[by])
    for row, source in enumerate(sources):
        state = _encoded(source)
        assert said.values[row] == oracle_of(model).tokens([BEGIN], 10, settings, row, state=state)


async def test_a_prompt_of_tensors_is_taken_as_it_is(caller: Caller, model: str) -> None:
    settings, state = SamplingColumns(seed=[9]), _encoded([1, 2, 3])
    condition = {"condition_text": TextRows(rows=["pqr"])}
    said = await generate(
        caller,
        model,
        rows=1,
        steps=8,
        settings=settings,
        prompt={"x": to_tensor(np.array([BEGIN, 3, 4], np.int32))},
        prompt_lengths=pack_uint32([3]),
        **condition,
    )
    assert said.values[0] == oracle_of(model).tokens([BEGIN, 3, 4], 8, settings, 0, state=state)
    text = await generate(
        caller, model, rows=1, steps=8, settings=settings, prompt_text=TextRows(rows=["OW K"]), **condition
    )
    assert text.values == said.values


async def test_sessions_begin_with_what_was_encoded(caller: Caller, model: str) -> None:
    sources = _sources(5)
    opened = await caller.ask(
        open=pb.OpenSessionsRequest(
            model=model,
            session_ids=[f"s{row}" for row in range(6)],
            encoder_text=TextRows(rows=[*map(_text, sources[:3]), "p!", *map(_text, sources[3:])]),
        )
    )
    assert [(error.row, error.reason) for error in opened.errors] == [(3, "BAD_TENSOR")]
    sessions = [(session.handle, session.position) for session in opened.sessions]
    greedy = SamplingColumns(temperature=[0])
    first = await generate_sessions(caller, sessions, 3, greedy)
    going = [row for row in range(5) if first.values[row][-1]]
    assert going
    rest = await generate_sessions(
        caller, [(sessions[row][0], first.positions[row]) for row in going], [], greedy
    )
    for place, row in enumerate(going):
        whole = first.values[row] + rest.values[place]
        assert whole == _said(sources[row], LIMIT + 3)
    # The same by steps: the begin token is the first.
    reply = await caller.ask(
        open=pb.OpenSessionsRequest(
            model=model,
            session_ids=["stepped"],
            encoder_inputs={"x": to_tensor(np.array(sources[0], np.int32))},
            encoder_lengths=pack_uint32([len(sources[0])]),
        )
    )
    (handle,) = [session.handle for session in reply.sessions]
    await caller.ask(step=caller.frame([(handle, 0)], np.array([BEGIN], np.int32)))
    said = await generate_sessions(caller, [(handle, 1)], LIMIT, greedy)
    assert said.values[0] == _said(sources[0])


async def test_snapshots_carry_what_was_encoded_to_another_server(generative: Path, model: str) -> None:
    async with running_server(generative, snapshot_key="k" * 16) as address, connect(address) as caller:
        opened = await caller.ask(
            open=pb.OpenSessionsRequest(model=model, session_ids=["a"], encoder_text=TextRows(rows=["pqrst"]))
        )
        handles = pack_uint64([session.handle for session in opened.sessions])
        taken = await caller.ask(snapshot=pb.SnapshotSessionsRequest(handles=handles))
    async with running_server(generative, snapshot_key="k" * 16) as address, connect(address) as caller:
        restored = await caller.ask(restore=pb.RestoreSessionsRequest(tokens=taken.tokens, session_ids=["b"]))
        said = await generate_sessions(
            caller, [(restored.sessions[0].handle, 0)], LIMIT, SamplingColumns(temperature=[0])
        )
    assert said.values[0] == _said([1, 2, 3, 4, 5])


async def test_opening_again_takes_the_session_over_as_it_stands(caller: Caller, model: str) -> None:
    request = pb.OpenSessionsRequest(model=model, session_ids=["twice"], encoder_text=TextRows(rows=["pq"]))
    (session,) = (await caller.ask(open=request)).sessions
    settings = SamplingColumns(seed=[1])
    first = await generate_sessions(caller, [(session.handle, 0)], 1, settings)
    (again,) = (await caller.ask(open=request)).sessions
    assert (again.created, again.position) == (False, first.positions[0])
