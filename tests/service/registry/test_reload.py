"""Changes the repository of a running server: new versions serve, removed ones until their sessions end."""

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect, read_answer
from tests.helpers.models.small import SmallModels

from statewise.service.testing import running_server
from statewise.v1 import model_pb2 as mp
from statewise.v1 import sequence_pb2 as sp
from statewise.wire import from_tensor, pack_uint32, pack_uint64, to_tensor, unpack_uint32

SOON_S = 0.01


@pytest.fixture
def published(repository: Path, tmp_path: Path) -> Path:
    """A repository with version 1 of `steps`."""
    publish(repository / "steps" / "1", tmp_path / "steps" / "1")
    return tmp_path


def publish(source: Path, target: Path) -> None:
    """Publishes a version as an exporter does: copies it under another name, then renames it."""
    hidden = target.parent / f".{target.name}"
    shutil.copytree(source, hidden)
    os.rename(hidden, target)


async def until(caller: Caller, wanted: Mapping[int, int], *, default: int) -> None:
    """Asks again and again until the versions of `steps` have these statuses."""
    while True:
        listed = (await caller.models.ListModels(mp.ListModelsRequest())).models
        statuses = {model.version: model.status for model in listed}
        if statuses == wanted and any(model.is_default and model.version == default for model in listed):
            return


async def version_that_answers(caller: Caller) -> int:
    x = np.zeros((1, 3), np.float32)
    request = sp.PredictRequest(model="steps", lengths=pack_uint32([1]), inputs={"x": to_tensor(x)})
    return int((await read_answer(caller.sequences.Predict(request))).version)


async def test_a_new_version_serves_new_work_and_sessions_stay_on_theirs(
    published: Path, repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((6, 3)).astype(np.float32)
    async with running_server(published, repository_poll_s=SOON_S) as address, connect(address) as caller:
        (old,) = await caller.open("steps", "old")
        first = await caller.step(old, 0, x[:3])
        publish(repository / "steps" / "2", published / "steps" / "2")
        await until(caller, {1: mp.MODEL_STATUS_READY, 2: mp.MODEL_STATUS_READY}, default=2)
        (new,) = await caller.open("steps", "new")
        rest = await caller.step(old, 3, x[3:])
        other = await caller.step(new, 0, x)
        assert np.concatenate([first, rest]).tobytes() == small_models.find("steps", 1).run(x)[0].tobytes()
        assert other.tobytes() == small_models.find("steps", 2).run(x)[0].tobytes()

        shutil.rmtree(published / "steps" / "1")
        await until(caller, {1: mp.MODEL_STATUS_UNLOADING, 2: mp.MODEL_STATUS_READY}, default=2)
        await caller.step(old, 6, x)
        await caller.ask(close=sp.CloseSessionsRequest(handles=pack_uint64([old])))
        await until(caller, {2: mp.MODEL_STATUS_READY}, default=2)


async def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving_until_it_is_mended(
    published: Path, repository: Path
) -> None:
    whole = (repository / "steps" / "2" / "model.onnx").read_bytes()
    half_written = published / "steps" / "2" / "model.onnx"
    async with running_server(published, repository_poll_s=SOON_S) as address, connect(address) as caller:
        half_written.parent.mkdir()
        half_written.write_bytes(whole[: len(whole) // 2])
        await until(caller, {1: mp.MODEL_STATUS_READY, 2: mp.MODEL_STATUS_FAILED}, default=1)
        assert await version_that_answers(caller) == 1
        half_written.write_bytes(whole)
        await until(caller, {1: mp.MODEL_STATUS_READY, 2: mp.MODEL_STATUS_READY}, default=2)
        assert await version_that_answers(caller) == 2


async def test_a_folder_changed_after_loading_is_reported_and_ignored(
    published: Path, repository: Path
) -> None:
    async with running_server(published, repository_poll_s=SOON_S) as address, connect(address) as caller:
        before = (await caller.models.GetModel(mp.GetModelRequest(name="steps"))).model
        shutil.copy(repository / "steps" / "2" / "model.onnx", published / "steps" / "1" / "model.onnx")
        while True:
            model = (await caller.models.GetModel(mp.GetModelRequest(name="steps"))).model
            if model.failure:
                break
        assert "changed after loading" in model.failure
        assert (model.status, model.digest) == (mp.MODEL_STATUS_READY, before.digest)


async def test_rolling_back_by_default_version(repository: Path, tmp_path: Path) -> None:
    for version in ("1", "2"):
        publish(repository / "steps" / version, tmp_path / "steps" / version)
    both = {1: mp.MODEL_STATUS_READY, 2: mp.MODEL_STATUS_READY}
    async with running_server(tmp_path, repository_poll_s=SOON_S) as address, connect(address) as caller:
        assert await version_that_answers(caller) == 2
        (tmp_path / "steps" / "model.toml").write_text("default_version = 1\n")
        await until(caller, both, default=1)
        assert await version_that_answers(caller) == 1
        (tmp_path / "steps" / "model.toml").unlink()
        await until(caller, both, default=2)


async def test_loading_and_unloading_by_request(published: Path, repository: Path) -> None:
    async with running_server(published, repository_poll_s=0) as address, connect(address) as caller:
        publish(repository / "steps" / "2", published / "steps" / "2")
        for _ in range(2):
            loaded = (await caller.models.LoadModel(mp.LoadModelRequest(name="steps"))).model
            assert (loaded.version, loaded.status, loaded.is_default) == (2, mp.MODEL_STATUS_READY, True)
        (handle,) = await caller.open("steps", "a")
        for expected in (mp.MODEL_STATUS_UNLOADING, mp.MODEL_STATUS_UNLOADING):
            request = mp.UnloadModelRequest(name="steps", version=2)
            assert (await caller.models.UnloadModel(request)).model.status == expected
        assert await version_that_answers(caller) == 1
        await caller.step(handle, 0, np.zeros(3, np.float32))
        await caller.ask(close=sp.CloseSessionsRequest(handles=pack_uint64([handle])))
        assert (await caller.models.UnloadModel(request)).model.status == mp.MODEL_STATUS_UNLOADED
        assert (
            await caller.models.LoadModel(mp.LoadModelRequest(name="steps", version=2))
        ).model.version == 2
        assert await version_that_answers(caller) == 2


async def test_sessions_of_a_version_that_is_loaded_again_share_frames_with_new_ones(
    published: Path, repository: Path
) -> None:
    publish(repository / "steps" / "2", published / "steps" / "2")
    async with running_server(published, repository_poll_s=0) as address, connect(address) as caller:
        (before,) = await caller.open("steps", "a")
        await caller.models.UnloadModel(mp.UnloadModelRequest(name="steps", version=2))
        await caller.models.LoadModel(mp.LoadModelRequest(name="steps", version=2))
        (after,) = await caller.open("steps", "b")
        reply = await caller.ask(step=caller.frame([(before, 0), (after, 0)], np.zeros((2, 3), np.float32)))
        first, second = from_tensor(reply.outputs["y"])
        assert first.tobytes() == second.tobytes()
        models = (await caller.models.ListModels(mp.ListModelsRequest())).models
        assert [(model.version, model.status) for model in models if model.name == "steps"] == [
            (1, mp.MODEL_STATUS_READY),
            (2, mp.MODEL_STATUS_READY),
        ]


@pytest.mark.parametrize(
    ("call", "request_", "code", "words"),
    [
        ("LoadModel", mp.LoadModelRequest(name="steps", version=9), "NOT_FOUND", "versions there: 1"),
        ("LoadModel", mp.LoadModelRequest(name="../steps"), "NOT_FOUND", "has no model '../steps'"),
        ("LoadModel", mp.LoadModelRequest(name="steps", version=3), "FAILED_PRECONDITION", "no model.onnx"),
        ("UnloadModel", mp.UnloadModelRequest(name="nobody"), "NOT_FOUND", "served are: steps"),
    ],
)
async def test_requests_to_load_that_cannot_be(
    published: Path, call: str, request_: Message, code: str, words: str
) -> None:
    async with running_server(published, repository_poll_s=0) as address, connect(address) as caller:
        (published / "steps" / "3").mkdir()
        if "versions there: 1" in words:
            (published / "steps" / "3").rmdir()
        with pytest.raises(grpc.aio.AioRpcError, match=words) as failure:
            await getattr(caller.models, call)(request_)
        assert failure.value.code().name == code


async def test_a_prediction_under_way_outlives_its_version(
    published: Path, repository: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    publish(repository / "steps" / "2", published / "steps" / "2")
    lengths = [10, 60_000, 60_000]
    rows = [random.standard_normal((length, 3)).astype(np.float32) for length in lengths]
    asked = sp.PredictRequest(
        model="steps", lengths=pack_uint32(lengths), inputs={"x": to_tensor(np.concatenate(rows))}
    )
    async with (
        running_server(published, repository_poll_s=SOON_S) as address,
        connect(address, max_receive_message_length=-1) as caller,
    ):
        answering = aiter(caller.sequences.Predict(asked))
        parts = [await anext(answering)]
        assert unpack_uint32(parts[0].rows).tolist() == [0]  # the long rows are still running
        shutil.rmtree(published / "steps" / "2")
        await until(caller, {1: mp.MODEL_STATUS_READY}, default=1)
        parts += [part async for part in answering]
    assert {part.version for part in parts} == {2}
    answered: dict[int, bytes] = {}
    for part in parts:
        numbers = unpack_uint32(part.rows).tolist()
        ends = np.cumsum(unpack_uint32(part.lengths))[:-1]
        pieces = np.split(from_tensor(part.outputs["y"]), ends)
        answered.update((row, y.tobytes()) for row, y in zip(numbers, pieces, strict=True))
    oracle = small_models.find("steps", 2)
    assert answered == {row: oracle.run(x)[0].tobytes() for row, x in enumerate(rows)}


RELOADS = 100


def source_of(version: int) -> int:
    """The network, 1 or 2, that a version of the long test holds."""
    return 1 + version % 2


async def until_default(caller: Caller, version: int) -> None:
    """Asks again and again until this version is the default."""
    while True:
        model = (await caller.models.GetModel(mp.GetModelRequest(name="steps"))).model
        if model.version == version:
            return


async def open_session(caller: Caller, name: str) -> sp.Session:
    opened = await caller.ask(open=sp.OpenSessionsRequest(model="steps", session_ids=[name]))
    session: sp.Session
    (session,) = opened.sessions
    return session


@pytest.mark.long
async def test_no_request_fails_in_a_hundred_reloads_and_rollbacks(
    repository: Path, tmp_path: Path, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    expected = {source: small_models.find("steps", source).run(x)[0].tobytes() for source in (1, 2)}
    folder = tmp_path / "steps"
    publish(repository / "steps" / str(source_of(1)), folder / "1")
    changing = True
    answered = {1: 0, 2: 0}

    async def predict(caller: Caller) -> None:
        request = sp.PredictRequest(model="steps", lengths=pack_uint32([4]), inputs={"x": to_tensor(x)})
        while changing:
            reply = await read_answer(caller.sequences.Predict(request))
            assert unpack_uint32(reply.rows).tolist() == [0]
            assert from_tensor(reply.outputs["y"]).tobytes() == expected[source_of(reply.version)]
            answered[source_of(reply.version)] += 1

    async def finish(caller: Caller, session: sp.Session, y: list[Array]) -> None:
        for t in range(len(y), 4):
            y.append(await caller.step(session.handle, t, x[t]))
        assert np.concatenate(y).tobytes() == expected[source_of(session.version)]
        await caller.ask(close=sp.CloseSessionsRequest(handles=pack_uint64([session.handle])))

    async def short_sessions(caller: Caller) -> None:
        number = 0
        while changing:
            number += 1
            await finish(caller, await open_session(caller, f"short {number}"), [])

    async with (
        running_server(tmp_path, repository_poll_s=0.001) as address,
        connect(address) as one,
        connect(address) as two,
        connect(address) as three,
    ):
        work = [asyncio.create_task(predict(one)), asyncio.create_task(short_sessions(two))]
        held: deque[tuple[sp.Session, list[Array]]] = deque()
        for version in range(2, RELOADS + 2):
            session = await open_session(three, f"held {version}")
            assert session.version == version - 1
            held.append((session, [await three.step(session.handle, 0, x[0])]))
            publish(repository / "steps" / str(source_of(version)), folder / str(version))
            await until_default(three, version)
            (folder / "model.toml").write_text(f"default_version = {version - 1}\n")
            await until_default(three, version - 1)
            (folder / "model.toml").unlink()
            await until_default(three, version)
            shutil.rmtree(folder / str(version - 1))
            if len(held) == 7:  # whose versions were removed long ago
                await finish(three, *held.popleft())
        changing = False
        await asyncio.gather(*work)
        while held:
            await finish(three, *held.popleft())
        await until(three, {version: mp.MODEL_STATUS_READY}, default=version)
    assert min(answered.values()) > 0
