"""Steps sessions over the wire: positions, retries, handles, and errors that stay with their row."""

import asyncio

import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in
from tests.helpers.models.small import SmallModels

from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor, pack_uint64


async def test_steps_equal_the_whole_sequence_bit_for_bit(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((20, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    stepped = np.concatenate([await caller.step(handle, t, x[t]) for t in range(20)])
    assert stepped.tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_chunks_equal_the_whole_sequence_bit_for_bit(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((700, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    pieces, position = [], 0
    for size in (1, 3, 640, 56):
        pieces.append(await caller.step(handle, position, x[position : position + size]))
        position += size
    assert np.concatenate(pieces).tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_a_many_to_one_session_gives_the_output_of_its_last_step(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((9, 3)).astype(np.float32)
    (handle,) = await caller.open("last", "a")
    await caller.step(handle, 0, x[:4])
    y = await caller.step(handle, 4, x[4:])
    assert y.shape == (1, 2)
    assert y[0].tobytes() == small_models.find("last").run(x)[0].tobytes()


async def test_a_ragged_frame_advances_each_session_by_its_own_steps(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = [random.standard_normal((steps, 3)).astype(np.float32) for steps in (1, 5, 2, 9)]
    handles = await caller.open("steps", "a", "b", "c", "d")
    request = caller.frame(
        [(handle, 0) for handle in handles], np.concatenate(x), steps=[len(one) for one in x]
    )
    y = from_tensor((await caller.ask(step=request)).outputs["y"])
    expected = np.concatenate([small_models.find("steps").run(one)[0] for one in x])
    assert y.tobytes() == expected.tobytes()


async def test_sixty_four_callers_at_once_get_what_each_gets_alone(
    address: str, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((64, 12, 3)).astype(np.float32)

    async def one(number: int) -> bytes:
        async with connect(address) as alone:
            (handle,) = await alone.open("steps", f"session {number}")
            return b"".join([(await alone.step(handle, t, x[number, t])).tobytes() for t in range(12)])

    together = await asyncio.gather(*(one(number) for number in range(64)))
    oracle = small_models.find("steps")
    assert together == [oracle.run(sequence)[0].tobytes() for sequence in x]


async def test_a_repeated_step_gives_the_same_bits_and_changes_nothing(
    caller: Caller, random: np.random.Generator
) -> None:
    x = random.standard_normal((3, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    await caller.step(handle, 0, x[0])
    first = await caller.step(handle, 1, x[1])
    again = await caller.step(handle, 1, x[1])
    assert again.tobytes() == first.tobytes()
    # Had the repetition been applied, position 2 would not be the session's.
    following = await caller.step(handle, 2, x[2])
    (other,) = await caller.open("steps", "b")
    undisturbed = [await caller.step(other, t, x[t]) for t in range(3)]
    assert following.tobytes() == undisturbed[2].tobytes()


async def test_a_repeated_chunk_gives_the_same_bits_and_changes_nothing(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((8, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    first = await caller.step(handle, 0, x[:6])
    again = await caller.step(handle, 0, x[:6])
    rest = await caller.step(handle, 6, x[6:])
    assert again.tobytes() == first.tobytes()
    assert np.concatenate([first, rest]).tobytes() == small_models.find("steps").run(x)[0].tobytes()


@pytest.mark.parametrize(
    ("position", "steps", "same_input"),
    [(1, 1, False), (1, 2, True), (0, 1, True), (3, 1, True), (2**63, 1, True)],
    ids=["another input", "another number of steps", "older still", "ahead", "far ahead"],
)
async def test_a_different_request_at_another_position_is_refused(
    caller: Caller, random: np.random.Generator, position: int, steps: int, same_input: bool
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    await caller.step(handle, 0, x[0])
    await caller.step(handle, 1, x[1])
    given = np.repeat(x[1:2] if same_input else x[2:3], steps, axis=0)
    reply = await caller.ask(step=caller.frame([(handle, position)], given, steps=[steps]))
    (error,) = reply.errors
    assert (error.reason, error.code, error.position) == ("POSITION_MISMATCH", 9, 2)
    assert "expected start position 2" in error.message
    await caller.step(handle, 2, x[2])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
async def test_numbers_that_are_none_fail_their_row_alone(
    caller: Caller, random: np.random.Generator, bad: float
) -> None:
    x = random.standard_normal((3, 3)).astype(np.float32)
    x[1, 2] = bad
    handles = await caller.open("steps", "a", "b", "c")
    reply = await caller.ask(step=caller.frame([(handle, 0) for handle in handles], x))
    (error,) = reply.errors
    assert (error.row, error.reason, error.code) == (1, "BAD_TENSOR", 3)
    assert "expected finite numbers" in error.message
    good = from_tensor(reply.outputs["y"])
    for handle, row in ((handles[0], 0), (handles[2], 2)):
        assert (await caller.step(handle, 0, x[row])).tobytes() == good[row // 2].tobytes()  # a retry
    await caller.step(handles[1], 0, x[0])


async def test_a_row_of_no_steps_fails_its_request(caller: Caller, random: np.random.Generator) -> None:
    x = random.standard_normal((3, 3)).astype(np.float32)
    handles = await caller.open("steps", "a", "b", "c")
    error = await caller.ask(step=caller.frame([(handle, 0) for handle in handles], x, steps=[2, 0, 1]))
    assert info_in(error).reason == "BAD_TENSOR"
    assert error.message == "row 1 has 0 time steps; expected at least 1"
    await caller.step(handles[0], 0, x[0])
    await caller.step(handles[1], 0, x[0])


async def test_an_empty_frame_and_a_handle_twice_are_refused(caller: Caller) -> None:
    (handle,) = await caller.open("steps", "a")
    empty = await caller.ask(step=caller.frame([], np.zeros((0, 3), np.float32)))
    assert "no rows" in empty.message
    twice = await caller.ask(step=caller.frame([(handle, 0)] * 2, np.zeros((2, 3), np.float32)))
    assert "a handle stands twice" in twice.message
    await caller.step(handle, 0, np.zeros(3, np.float32))


async def test_sessions_of_two_models_do_not_share_a_frame(caller: Caller) -> None:
    handles = await caller.open("steps", "a") + await caller.open("last", "b")
    refused = await caller.ask(step=caller.frame([(h, 0) for h in handles], np.zeros((2, 3), np.float32)))
    assert "different models" in refused.message


async def test_resuming_voids_the_old_handle_and_keeps_state_and_position(
    caller: Caller, random: np.random.Generator
) -> None:
    x = random.standard_normal((3, 3)).astype(np.float32)
    (old,) = await caller.open("steps", "a")
    await caller.step(old, 0, x[0])
    resumed = await caller.ask(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["a", "nobody"]))
    (session,), (missing,) = resumed.sessions, resumed.errors
    assert (session.position, session.epoch, session.created) == (1, 2, False)
    assert (missing.row, missing.reason, missing.code) == (1, "SESSION_NOT_FOUND", 5)
    reply = await caller.ask(step=caller.frame([(old, 1), (session.handle, 1)], x[1:3]))
    (moved,) = reply.errors
    assert (moved.row, moved.reason, moved.code) == (0, "SESSION_MOVED", 10)
    # Alone, too, where no handle of the frame is in force.
    reply = await caller.ask(step=caller.frame([(old, 1)], x[1:2]))
    assert reply.errors[0].reason == "SESSION_MOVED"


async def test_opening_twice_takes_the_session_over_as_it_stands(
    caller: Caller, random: np.random.Generator
) -> None:
    x = random.standard_normal((2, 3)).astype(np.float32)
    (old,) = await caller.open("steps", "a")
    await caller.step(old, 0, x[0])
    again = await caller.ask(open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["a"]))
    assert (again.sessions[0].created, again.sessions[0].position) == (False, 1)
    assert again.sessions[0].handle != old
    taken = await caller.ask(open=sequence_pb2.OpenSessionsRequest(model="last", session_ids=["a", "b"]))
    assert [session.session_id for session in taken.sessions] == ["b"]
    assert (taken.errors[0].reason, taken.errors[0].code) == ("SESSION_EXISTS", 6)


async def test_a_closed_session_is_gone_and_closing_again_is_no_failure(caller: Caller) -> None:
    handles = await caller.open("steps", "a", "b")
    close = sequence_pb2.CloseSessionsRequest(handles=pack_uint64(handles[:1]))
    for _ in range(2):
        assert not (await caller.ask(close=close)).errors
    reply = await caller.ask(
        step=caller.frame([(handle, 0) for handle in handles], np.zeros((2, 3), np.float32))
    )
    (error,) = reply.errors
    assert (error.row, error.reason, error.code) == (0, "SESSION_NOT_FOUND", 5)
    (fresh,) = await caller.open("steps", "a")
    assert (await caller.step(fresh, 0, np.zeros(3, np.float32))).tobytes() == from_tensor(
        reply.outputs["y"]
    ).tobytes()


async def test_requests_of_one_session_keep_their_order_without_waiting_for_replies(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((40, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    numbers, position = [], 0
    for size in (1, 1, 25, 1, 11, 1):
        chunk = x[position : position + size]
        numbers.append(await caller.send(step=caller.frame([(handle, position)], chunk, steps=[size])))
        position += size
    closing = await caller.send(close=sequence_pb2.CloseSessionsRequest(handles=pack_uint64([handle])))
    replies = {}
    for _ in range(7):
        reply = await caller.receive()
        replies[reply.request_id] = reply
    assert closing in replies
    pieces = [from_tensor(replies[number].step.outputs["y"]) for number in numbers]
    assert np.concatenate(pieces).tobytes() == small_models.find("steps").run(x)[0].tobytes()


async def test_a_step_whose_time_has_passed_changes_nothing(caller: Caller) -> None:
    (handle,) = await caller.open("steps", "a")
    late = await caller.ask(step=caller.frame([(handle, 0)], np.zeros((1, 3), np.float32), timeout_s=-1.0))
    assert late.code == 4
    await caller.step(handle, 0, np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("model", "ids", "reason"),
    [
        ("nobody", ["a"], "MODEL_NOT_FOUND"),
        ("both", ["a"], "NOT_STREAMABLE"),
        ("steps", [], "BAD_TENSOR"),
        ("steps", [""], "BAD_REQUEST"),
        ("steps", ["a\n"], "BAD_REQUEST"),
        ("steps", ["é" * 65], "BAD_REQUEST"),
        ("steps", ["a", "a"], "BAD_REQUEST"),
    ],
)
async def test_openings_that_cannot_be(caller: Caller, model: str, ids: list[str], reason: str) -> None:
    status = await caller.ask(open=sequence_pb2.OpenSessionsRequest(model=model, session_ids=ids))
    assert info_in(status).reason == reason
