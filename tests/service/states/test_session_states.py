"""Reads and writes the states of sessions over the wire: order, repetitions, and rows that fail alone."""

import asyncio
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in
from tests.helpers.models.extreme import publish_extreme
from tests.helpers.models.small import HIDDEN, SmallModels
from tests.helpers.states import open_in, read_states, tensors, write_request

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint64

S = 2 * HIDDEN
LARGE = """
<ir_version: 8, opset_import: ["" : 17]>
large (float[batch, 1] x, float[batch, 32768] s) => (float[batch, 1] y, float[batch, 32768] s_out) {
    y = Identity(x)
    s_out = Identity(s)
}
"""
"""Keeps a state of 128 KiB."""


async def test_a_state_that_is_read_is_that_of_the_graph(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x, oracle = random.standard_normal((7, 3)).astype(np.float32), small_models.find("steps")
    first, second = await caller.open("steps", "a", "b")
    await caller.step(first, 0, x)
    read = await read_states(caller, second, first)
    assert read.positions == [0, 7]
    assert not read.state["state"][0].any()
    assert read.state["state"][1].tobytes() == oracle.run(x)[1].tobytes()
    (copy,) = await open_in(caller, "steps", read.of_rows(slice(1, 2)), "copy")
    y = [await caller.step(handle, 7, x) for handle in (first, copy)]
    assert y[0].tobytes() == y[1].tobytes()


async def test_reading_has_its_turn_among_the_steps_of_a_stream(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x, oracle = random.standard_normal((300, 3)).astype(np.float32), small_models.find("steps")
    (handle,) = await caller.open("steps", "a")
    await caller.send(step=caller.frame([(handle, 0)], x, steps=[len(x)]))
    asked = await caller.send(read_states=pb.ReadStatesRequest(handles=pack_uint64([handle])))
    await caller.send(step=caller.frame([(handle, 300)], x[:1]))
    replies = {(reply := await caller.receive()).request_id: reply for _ in range(3)}
    state = np.frombuffer(replies[asked].read_states.state["state"].data, np.float32)
    assert state.tobytes() == oracle.run(x)[1].tobytes()


async def test_a_written_state_is_the_one_that_the_session_goes_on_from(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x, oracle = random.standard_normal((4, 3)).astype(np.float32), small_models.find("steps")
    states = random.standard_normal((2, S)).astype(np.float32)
    handles = await caller.open("steps", "a", "b")
    for handle in handles:
        await caller.step(handle, 0, x)
    request = write_request([(handle, 4) for handle in handles], {"state": states}, new_positions=[9, 4])
    reply = await caller.ask(write_states=request)
    assert [(one.position, one.epoch, one.handle) for one in reply.sessions] == [
        (9, 2, handles[0]),
        (4, 2, handles[1]),
    ]
    for handle, position, state in zip(handles, (9, 4), states, strict=True):
        # What came before can neither be retried nor taken back.
        for refused in ({"step": caller.frame([(handle, 0)], x, steps=[4])}, {"rewind": _rewind(handle, 0)}):
            (error,) = (await caller.ask(**refused)).errors
            assert (error.reason, error.position) == ("POSITION_MISMATCH", position)
        assert (await caller.step(handle, position, x)).tobytes() == oracle.run(x, state)[0].tobytes()
    # Steps afterwards can be.
    assert not (await caller.ask(rewind=_rewind(handles[0], 9))).errors
    assert (await read_states(caller, handles[0])).state["state"][0].tobytes() == states[0].tobytes()


async def test_a_write_that_is_repeated_changes_nothing(caller: Caller, random: np.random.Generator) -> None:
    state = random.standard_normal((1, S)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    request = write_request([(handle, 0)], {"state": state}, new_positions=[5])
    replies = [await caller.ask(write_states=request) for _ in range(3)]
    assert [[one.epoch for one in reply.sessions] for reply in replies] == [[2]] * 3
    # Another state is no repetition: the session is not at position 0.
    other = write_request([(handle, 0)], {"state": state + 1}, new_positions=[5])
    (error,) = (await caller.ask(write_states=other)).errors
    assert (error.reason, error.position) == ("POSITION_MISMATCH", 5)
    await caller.step(handle, 5, np.ones(3, np.float32))
    (error,) = (await caller.ask(write_states=request)).errors
    assert (error.reason, error.position) == ("POSITION_MISMATCH", 6)


async def test_a_part_is_written_and_the_rest_stays(generative_caller: Caller) -> None:
    caller = generative_caller
    (handle,) = await caller.open("plain", "a")
    await caller.step(handle, 0, np.ones((3, 5), np.float32))
    before = (await read_states(caller, handle)).state["state"][0]
    part = np.arange(11, dtype=np.float32)[None]
    reply = await caller.ask(write_states=write_request([(handle, 3)], {"layer0.c": part}))
    assert [one.position for one in reply.sessions] == [3]
    after = (await read_states(caller, handle)).state["state"][0]
    assert after.tobytes() == before[:11].tobytes() + part.tobytes()


async def test_rows_fail_alone(caller: Caller, random: np.random.Generator) -> None:
    states = random.standard_normal((4, S)).astype(np.float32)
    states[1, 3] = np.inf
    handles = await caller.open("steps", "a", "b", "c")
    positions = [0, 0, 7, 0]
    sessions = list(zip([*handles, handles[0] ^ 1 << 40], positions, strict=True))
    reply = await caller.ask(write_states=write_request(sessions, {"state": states}))
    assert [one.session_id for one in reply.sessions] == ["a"]
    assert [(one.row, one.reason) for one in reply.errors] == [
        (1, "BAD_TENSOR"),
        (2, "POSITION_MISMATCH"),
        (3, "SESSION_NOT_FOUND"),
    ]
    read = await caller.ask(
        read_states=pb.ReadStatesRequest(handles=pack_uint64([handles[0], 3, handles[1]]))
    )
    assert [(one.row, one.reason) for one in read.errors] == [(1, "SESSION_NOT_FOUND")]
    assert read.state["state"].data == states[0].tobytes() + bytes(4 * S)


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({}, "BAD_TENSOR", "the request names no state; expected at least one"),
        (
            {"state": tensors({"h": np.zeros((1, 1), np.float32)})},
            "BAD_TENSOR",
            "the model has no state 'h'; expected: 'state'",
        ),
        (
            {"state": tensors({"state": np.zeros((1, S), np.float32)}), "positions": b""},
            "BAD_REQUEST",
            "expected columns of equal length",
        ),
        (
            {
                "state": tensors({"state": np.zeros((1, S), np.float32)}),
                "new_positions": pack_uint64([2**64 - 1]),
            },
            "BAD_REQUEST",
            "new_positions: expected at most",
        ),
    ],
)
async def test_what_cannot_be_written(
    caller: Caller, fields: dict[str, object], reason: str, words: str
) -> None:
    (handle,) = await caller.open("steps", "a")
    given: dict[str, object] = {"handles": pack_uint64([handle]), "positions": pack_uint64([0]), **fields}
    failure = await caller.ask(write_states=pb.WriteStatesRequest(**given))  # type: ignore[arg-type]
    assert info_in(failure).reason == reason
    assert words in failure.message


async def test_sessions_of_two_versions_do_not_share_a_request(caller: Caller) -> None:
    handles = pack_uint64(await caller.open("steps", "a", version=1) + await caller.open("steps", "b"))
    for request in (
        {"read_states": pb.ReadStatesRequest(handles=handles)},
        {
            "write_states": pb.WriteStatesRequest(
                handles=handles, positions=bytes(16), state=tensors({"state": np.zeros((1, S), np.float32)})
            )
        },
    ):
        failure = await caller.ask(**request)
        assert info_in(failure).reason == "BAD_REQUEST"
        assert "of different models or versions" in failure.message


async def test_calls_do_what_the_messages_of_a_stream_do(caller: Caller) -> None:
    handles = await caller.open("steps", *(f"s{number}" for number in range(300)))
    state = np.arange(300 * S, dtype=np.float32).reshape(300, S)
    request = write_request([(handle, 0) for handle in handles], {"state": state})
    written, read = await asyncio.gather(
        caller.sequences.WriteStates(request),
        caller.sequences.ReadStates(pb.ReadStatesRequest(handles=pack_uint64(handles))),
    )
    assert len(written.sessions) == 300
    assert len(read.positions) == 8 * 300
    again = await caller.sequences.ReadStates(pb.ReadStatesRequest(handles=pack_uint64(handles)))
    assert again.state["state"].data == state.tobytes()


async def test_a_state_for_all_rows_is_not_spread_over_them(tmp_path: Path) -> None:
    """Handles of no session cost nothing but their numbers: a request of them cannot fill the memory."""
    (tmp_path / "large" / "1").mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(LARGE), tmp_path / "large" / "1" / "model.onnx")
    (tmp_path / "large" / "1" / "model.toml").write_text('[[state]]\ninput = "s"\noutput = "s_out"\n')
    rows = 2_000
    async with running_server(tmp_path, sessions=10) as address, connect(address) as caller:
        (handle,) = await caller.open("large", "a")
        sessions = [(handle, 0), *((number << 24, 0) for number in range(1, rows))]
        request = write_request(sessions, {"s": np.full((1, 2**15), 0.5, np.float32)})
        tracemalloc.start()
        reply = await caller.ask(write_states=request)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(reply.sessions), len(reply.errors)) == (1, rows - 1)
        assert peak_bytes < 32 * 2**20
        (again,) = (await caller.ask(write_states=request)).sessions
        assert again.epoch == reply.sessions[0].epoch


async def test_numbers_that_a_model_begins_with_are_no_sign_of_damage(tmp_path: Path) -> None:
    publish_extreme(tmp_path)
    async with running_server(tmp_path) as address, connect(address) as caller:
        await caller.open("extreme", "a")
        seen = await caller.admin.GetSession(admin_pb2.GetSessionRequest(session_id="a"))
        assert not seen.session.nonfinite_state


def _rewind(handle: int, position: int) -> pb.RewindSessionsRequest:
    return pb.RewindSessionsRequest(handles=pack_uint64([handle]), positions=pack_uint64([position]))
