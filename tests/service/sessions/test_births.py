"""Tells sessions of one id apart by their births, over the wire."""

from typing import Any

import numpy as np
from tests.helpers.caller import Caller

from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64

ZEROS = np.zeros(3, np.float32)


async def open_one(caller: Caller, name: str, birth: int = 0) -> sequence_pb2.Session:
    births = pack_uint64([birth]) if birth else b""
    reply = await caller.ask(
        open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=[name], births=births)
    )
    session: sequence_pb2.Session = reply.sessions[0]
    return session


async def test_a_birth_is_kept_by_resume_and_rewind_and_new_in_a_session_opened_later(caller: Caller) -> None:
    first = await open_one(caller, "a")
    again = await open_one(caller, "a")
    resumed = await caller.ask(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["a"]))
    handle = resumed.sessions[0].handle
    await caller.step(handle, 0, ZEROS)
    rewound = await caller.ask(
        rewind=sequence_pb2.RewindSessionsRequest(handles=pack_uint64([handle]), positions=pack_uint64([0]))
    )
    assert first.birth != 0
    assert {again.birth, resumed.sessions[0].birth, rewound.sessions[0].birth} == {first.birth}
    await caller.ask(close=sequence_pb2.CloseSessionsRequest(handles=pack_uint64([handle])))
    later = await open_one(caller, "a")
    assert later.birth not in (0, first.birth)
    assert later.epoch == 1


async def test_the_client_chooses_births_and_a_session_taken_over_keeps_its_own(caller: Caller) -> None:
    assert (await open_one(caller, "a", 7)).birth == 7
    assert (await open_one(caller, "a", 8)).birth == 7


async def test_a_request_for_a_new_session_leaves_an_open_one_of_another_birth_alone(caller: Caller) -> None:
    session = await open_one(caller, "a", 7)
    for birth, reasons in (8, ["SESSION_EXISTS"]), (7, []):
        reply = await caller.ask(
            open=sequence_pb2.OpenSessionsRequest(
                model="steps", session_ids=["a"], births=pack_uint64([birth]), only_new=True
            )
        )
        assert [error.reason for error in reply.errors] == reasons
        if reasons:
            await caller.step(session.handle, 0, ZEROS)
    assert [(one.birth, one.position) for one in reply.sessions] == [(7, 1)]


async def resume(caller: Caller, births: list[int], holders: list[int]) -> Any:
    return await caller.ask(
        resume=sequence_pb2.ResumeSessionsRequest(
            session_ids=["a"], births=pack_uint64(births), holders=pack_uint64(holders)
        )
    )


async def test_a_session_of_another_birth_or_holder_is_not_resumed_and_keeps_its_handle(
    caller: Caller,
) -> None:
    session = await open_one(caller, "a", 7)
    for births, holders in ([8], []), ([8], [7]), ([7], [8]):
        reply = await resume(caller, births, holders)
        assert [error.reason for error in reply.errors] == ["SESSION_MOVED"]
    await caller.step(session.handle, 0, ZEROS)
    for epoch in (2, 3):
        reply = await resume(caller, [7], [7])
        assert [(one.position, one.epoch) for one in reply.sessions] == [(1, epoch)]


async def test_who_resumes_or_opens_a_session_again_is_its_holder(caller: Caller) -> None:
    await open_one(caller, "a", 7)
    assert (await resume(caller, [], [9])).sessions
    assert (await resume(caller, [7], [7])).errors
    assert (await resume(caller, [7], [9])).sessions
    await open_one(caller, "a", 11)
    assert (await resume(caller, [7], [9])).errors
    assert (await resume(caller, [7], [11])).sessions
    # A holder without a number is nobody's.
    assert (await resume(caller, [], [])).sessions
    assert (await resume(caller, [7], [11])).errors


async def test_a_fork_and_a_restore_sent_again_find_the_sessions_they_opened(caller: Caller) -> None:
    session = await open_one(caller, "a")
    handles = pack_uint64([session.handle])
    await caller.step(session.handle, 0, ZEROS)
    snapshot = await caller.ask(snapshot=sequence_pb2.SnapshotSessionsRequest(handles=handles))
    requests: dict[str, Any] = {
        "fork": sequence_pb2.ForkSessionsRequest(
            handles=handles, session_ids=["copy"], births=pack_uint64([7])
        ),
        "restore": sequence_pb2.RestoreSessionsRequest(
            tokens=snapshot.tokens, session_ids=["restored"], births=pack_uint64([7])
        ),
    }
    for name, request in requests.items():
        first = await caller.ask(**{name: request})
        again = await caller.ask(**{name: request})
        assert not again.errors
        assert again.sessions == first.sessions
        assert (first.sessions[0].birth, first.sessions[0].position) == (7, 1)
        await caller.step(again.sessions[0].handle, 1, ZEROS)
        request.births = pack_uint64([9])
        assert [one.reason for one in (await caller.ask(**{name: request})).errors] == ["SESSION_EXISTS"]


async def test_columns_of_births_have_one_number_a_row(caller: Caller) -> None:
    await open_one(caller, "a")
    for births in (pack_uint64([1, 2]), b"123"):
        reply = await caller.ask(resume=sequence_pb2.ResumeSessionsRequest(session_ids=["a"], births=births))
        assert "expected" in reply.message
