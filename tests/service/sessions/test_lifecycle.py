"""Forks, rewinds, snapshots and restores sessions, and lets them expire."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.base import StepResult
from statewise.service.session_state import SessionTable
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import from_tensor, pack_uint64, to_tensor


async def test_a_fork_goes_its_own_way_from_where_it_was_taken(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((6, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    await caller.step(handle, 0, x[:3])
    reply = await caller.ask(
        fork=pb.ForkSessionsRequest(handles=pack_uint64([handle, handle, 7]), session_ids=["b", "c", "d"])
    )
    assert [(one.session_id, one.position, one.created) for one in reply.sessions] == [
        ("b", 3, True),
        ("c", 3, True),
    ]
    assert [(error.row, error.reason) for error in reply.errors] == [(2, "SESSION_NOT_FOUND")]
    await caller.step(handle, 3, -x[3:])
    y = await caller.step(reply.sessions[0].handle, 3, x[3:])
    assert y.tobytes() == small_models.find("steps").run(x)[0][3:].tobytes()
    taken = await caller.ask(fork=pb.ForkSessionsRequest(handles=pack_uint64([handle]), session_ids=["b"]))
    assert taken.errors[0].reason == "SESSION_EXISTS"


async def test_rewinding_takes_back_the_last_request_and_no_more(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((6, 3)).astype(np.float32)
    (handle,) = await caller.open("steps", "a")
    await caller.step(handle, 0, x[:2])
    await caller.step(handle, 2, x[2:5])

    async def rewind(position: int) -> pb.RewindSessionsResponse:
        request = pb.RewindSessionsRequest(handles=pack_uint64([handle]), positions=pack_uint64([position]))
        answer = await caller.ask(rewind=request)
        assert isinstance(answer, pb.RewindSessionsResponse)
        return answer

    assert (await rewind(0)).errors[0].reason == "POSITION_MISMATCH"
    unmoved = (await rewind(5)).sessions[0]
    assert (unmoved.position, unmoved.epoch) == (5, 1)
    back = (await rewind(2)).sessions[0]
    assert (back.position, back.epoch, back.handle) == (2, 2, handle)
    # A request that was taken back cannot be repeated, and no older one is kept.
    assert (await rewind(0)).errors[0].reason == "POSITION_MISMATCH"
    y = await caller.step(handle, 2, x[2:])
    assert y.tobytes() == small_models.find("steps").run(x)[0][2:].tobytes()


async def test_a_snapshot_opens_a_session_that_goes_on_bit_for_bit(
    repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((9, 3)).astype(np.float32)
    async with running_server(repository, snapshot_key="k" * 16) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        await caller.step(handle, 0, x[:4])
        taken = await caller.ask(snapshot=pb.SnapshotSessionsRequest(handles=pack_uint64([handle, 3])))
        (token,) = taken.tokens
        assert taken.errors[0].reason == "SESSION_NOT_FOUND"
        await caller.step(handle, 4, x[4:5])
    # Another server with the same key and model.
    async with running_server(repository, snapshot_key="k" * 16) as address, connect(address) as caller:
        restored = await caller.ask(
            restore=pb.RestoreSessionsRequest(tokens=[token, token], session_ids=["b", "c"])
        )
        assert [one.position for one in restored.sessions] == [4, 4]
        y = await caller.step(restored.sessions[1].handle, 4, x[4:])
    assert y.tobytes() == small_models.find("steps").run(x)[0][4:].tobytes()


async def test_a_snapshot_is_restored_to_its_version_where_another_has_the_same_files(
    repository: Path, tmp_path: Path
) -> None:
    """And to the other one where its own is not served."""
    for version in (1, 2, 3):
        shutil.copytree(repository / "steps" / "1", tmp_path / "steps" / str(version))
    async with running_server(tmp_path, snapshot_key="k" * 16) as address, connect(address) as caller:
        for version in (1, 2, 3):
            (handle,) = await caller.open("steps", f"s{version}", version=version)
            snapshot = pb.SnapshotSessionsRequest(handles=pack_uint64([handle]))
            tokens = (await caller.ask(snapshot=snapshot)).tokens
            restore = pb.RestoreSessionsRequest(tokens=tokens, session_ids=[f"r{version}"])
            (restored,) = (await caller.ask(restore=restore)).sessions
            assert restored.version == version
    shutil.rmtree(tmp_path / "steps" / "3")
    async with running_server(tmp_path, snapshot_key="k" * 16) as address, connect(address) as caller:
        restore = pb.RestoreSessionsRequest(tokens=tokens, session_ids=["r"])
        (restored,) = (await caller.ask(restore=restore)).sessions
        assert restored.version in (1, 2)


async def test_snapshots_that_are_not_what_they_were_are_refused_and_told_why(
    repository: Path, tmp_path: Path
) -> None:
    async def refusals(caller: Caller, *tokens: bytes) -> list[tuple[str, int, str]]:
        names = [f"r{number}" for number in range(len(tokens))]
        reply = await caller.ask(restore=pb.RestoreSessionsRequest(tokens=tokens, session_ids=names))
        assert not reply.sessions
        assert [error.row for error in reply.errors] == list(range(len(tokens)))
        return [(error.reason, error.code, error.message) for error in reply.errors]

    async with running_server(repository, snapshot_key="k" * 16) as address, connect(address) as caller:
        (handle,) = await caller.open("steps", "a")
        taken = await caller.ask(snapshot=pb.SnapshotSessionsRequest(handles=pack_uint64([handle])))
        (token,) = taken.tokens
        size = len(token)
        assert await refusals(caller, b"", b"x" * size, token[:10], token[:40], token[:-1], token + b"x") == [
            ("BAD_SNAPSHOT", 3, "this is no snapshot, or its beginning is missing"),
            ("BAD_SNAPSHOT", 3, "this is no snapshot, or its beginning is missing"),
            ("BAD_SNAPSHOT", 3, "this is no snapshot, or its beginning is missing"),
            ("BAD_SNAPSHOT", 3, f"the snapshot was cut short: expected {size} bytes; got 40"),
            ("BAD_SNAPSHOT", 3, f"the snapshot was cut short: expected {size} bytes; got {size - 1}"),
            (
                "BAD_SNAPSHOT",
                3,
                f"the snapshot has bytes after its end: expected {size} bytes; got {size + 1}",
            ),
        ]
        altered = [
            token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :] for place in range(len(token))
        ]
        refused = await refusals(caller, *altered)
        assert {reason for reason, _, _ in refused} == {"BAD_SNAPSHOT"}
        assert {message for _, _, message in refused[20:]} == {"the snapshot was altered"}
    async with (
        running_server(repository, snapshot_key="another key than k") as address,
        connect(address) as caller,
    ):
        assert await refusals(caller, token) == [
            ("BAD_SNAPSHOT", 3, "the snapshot was signed with another key")
        ]
    # Other weights under the same name, and then the name is gone.
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "1").symlink_to(repository / "steps" / "1")
    async with running_server(tmp_path, snapshot_key="k" * 16) as address, connect(address) as caller:
        ((reason, code, message),) = await refusals(caller, token)
        assert (reason, code) == ("MODEL_CHANGED", 9)
        assert "no served version of model 'steps' has the digest" in message
    (tmp_path / "steps").rename(tmp_path / "renamed")
    async with running_server(tmp_path, snapshot_key="k" * 16) as address, connect(address) as caller:
        assert await refusals(caller, token) == [
            ("MODEL_NOT_FOUND", 5, "no model 'steps' is served; served are: renamed")
        ]


async def test_a_snapshot_is_its_owners_alone(repository: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(Settings(repository=repository, load_in_child=False), executor=executor)
        await dataplane.models.load_all()
        (opened,), _ = await dataplane.sessions.open("steps", 0, ["a"], owner="ann")
        handles = np.array([opened.view.handle], np.uint64)
        (token,), _ = await dataplane.sessions.snapshot(handles, owner="ann")
        _, (refused,) = await dataplane.sessions.snapshot(handles, owner="bob")
        assert refused.reason == "SESSION_NOT_FOUND"
        _, (foreign,) = await dataplane.sessions.restore([token], ["b"], owner="bob")
        assert (foreign.reason, "another owner" in foreign.message) == ("BAD_SNAPSHOT", True)
        (own,), _ = await dataplane.sessions.restore([token], ["b"], owner="ann")
        assert own.view.position == 0


async def test_idle_sessions_end_and_are_remembered_as_expired(repository: Path) -> None:
    now_s = 100.0
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False, idle_timeout_s=60.0)
        dataplane = build_dataplane(settings, executor=executor, clock=lambda: now_s)
        await dataplane.models.load_all()
        sessions = dataplane.sessions
        opened, _ = await sessions.open("steps", 0, ["old", "young"], owner="")
        now_s += 50.0
        await sessions.resume(["young"], owner="")
        now_s += 20.0
        assert sum(dataplane.idle_expiry.expire()) == 1
        assert sum(dataplane.idle_expiry.expire()) == 0
        _, (by_id,) = await sessions.resume(["old"], owner="")
        assert by_id.reason == "SESSION_EXPIRED"
        _, (by_handle,) = await sessions.snapshot(np.array([opened[0].view.handle], np.uint64), owner="")
        assert by_handle.reason == "SESSION_EXPIRED"
        # Another owner does not learn that the session expired.
        _, (other,) = await sessions.resume(["old"], owner="bob")
        assert other.reason == "SESSION_NOT_FOUND"
        (again,), _ = await sessions.open("steps", 0, ["old"], owner="")
        assert (again.created, again.view.position) == (True, 0)
        assert len(dataplane.table) == 2


async def test_whatever_is_asked_of_a_session_keeps_it_awake(repository: Path) -> None:
    now_s = 0.0
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False, idle_timeout_s=60.0)
        dataplane = build_dataplane(settings, executor=executor, clock=lambda: now_s)
        await dataplane.models.load_all()
        sessions = dataplane.sessions
        (opened,), _ = await sessions.open("steps", 0, ["a"], owner="")
        handles, zero = np.array([opened.view.handle], np.uint64), np.zeros(1, np.uint64)

        async def step() -> None:
            answer: asyncio.Future[StepResult | ServiceError] = asyncio.get_running_loop().create_future()
            x = {"x": np.ones((1, 3), np.float32)}
            dataplane.step(handles, zero, None, x, owner="", deadline_s=None, reply=answer.set_result)
            result = await answer
            assert isinstance(result, StepResult)
            assert not result.failures

        async def fork() -> None:
            (twin,), _ = await sessions.fork(handles, ["b"], owner="")
            await sessions.close(np.array([twin.view.handle], np.uint64), owner="")

        # A step, its repetition, and operations that do not move the session.
        for ask in (
            step,
            step,
            fork,
            lambda: sessions.snapshot(handles, owner=""),
            lambda: sessions.rewind(handles, np.ones(1, np.uint64), owner=""),
        ):
            now_s += 50.0
            assert sum(dataplane.idle_expiry.expire()) == 0
            await ask()
        now_s += 50.0
        await dataplane.session_administration.get(
            "a", owner=""
        )  # looking at a session does not keep it awake
        now_s += 11.0
        assert sum(dataplane.idle_expiry.expire()) == 1


async def test_ids_and_handles_of_ended_sessions_are_remembered_up_to_a_number(repository: Path) -> None:
    now_s = 0.0
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False, idle_timeout_s=60.0)
        dataplane = build_dataplane(
            settings,
            executor=executor,
            clock=lambda: now_s,
            make_table=partial(SessionTable, remembered=10),
        )
        await dataplane.models.load_all()
        names = [f"s{number}" for number in range(25)]
        opened, _ = await dataplane.sessions.open("steps", 0, names, owner="")
        now_s += 61.0
        assert sum(dataplane.idle_expiry.expire()) == 25
        _, by_id = await dataplane.sessions.resume(names, owner="")
        handles = np.array([one.view.handle for one in opened], np.uint64)
        _, by_handle = await dataplane.sessions.snapshot(handles, owner="")
        for failures in (by_id, by_handle):
            reasons = [failure.reason for failure in failures]
            assert reasons == ["SESSION_NOT_FOUND"] * 15 + ["SESSION_EXPIRED"] * 10


async def test_columns_of_unequal_length_are_refused(caller: Caller) -> None:
    (handle,) = await caller.open("steps", "a")
    one = pack_uint64([handle])
    for operation in (
        {"fork": pb.ForkSessionsRequest(handles=one, session_ids=["b", "c"])},
        {"rewind": pb.RewindSessionsRequest(handles=one)},
        {"restore": pb.RestoreSessionsRequest(session_ids=["b"])},
    ):
        assert (await caller.ask(**operation)).code == 3


async def test_the_unary_calls_do_the_same(caller: Caller, random: np.random.Generator) -> None:
    x = random.standard_normal((1, 3)).astype(np.float32)
    calls = caller.sequences
    opened = await calls.OpenSessions(pb.OpenSessionsRequest(model="steps", session_ids=["a"]))
    handles = pack_uint64([opened.sessions[0].handle])
    step = pb.StepRequest(handles=handles, positions=pack_uint64([0]), inputs={"x": to_tensor(x)})
    first = from_tensor((await calls.Step(step)).outputs["y"])
    rewound = await calls.RewindSessions(
        pb.RewindSessionsRequest(handles=handles, positions=pack_uint64([0]))
    )
    assert rewound.sessions[0].position == 0
    assert from_tensor((await calls.Step(step)).outputs["y"]).tobytes() == first.tobytes()
    forked = await calls.ForkSessions(pb.ForkSessionsRequest(handles=handles, session_ids=["b"]))
    taken = await calls.SnapshotSessions(pb.SnapshotSessionsRequest(handles=handles))
    restored = await calls.RestoreSessions(pb.RestoreSessionsRequest(tokens=taken.tokens, session_ids=["c"]))
    resumed = await calls.ResumeSessions(pb.ResumeSessionsRequest(session_ids=["a"]))
    everything = [*forked.sessions, *restored.sessions, *resumed.sessions]
    assert [one.position for one in everything] == [1, 1, 1]
    close = pb.CloseSessionsRequest(handles=pack_uint64([one.handle for one in everything]))
    assert not (await calls.CloseSessions(close)).errors
