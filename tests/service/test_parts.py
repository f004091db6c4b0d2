"""The parts that have an edge of their own: engine, arena, hashing, buckets, settings, runs that fail."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.helpers.caller import connect

from statewise.service import Settings, SettingsError
from statewise.service.engine import Engine
from statewise.service.registry import read_package
from statewise.service.scheduling import buckets_of_like_length
from statewise.service.session_state import StateArena, digest_rows
from statewise.service.testing import running_server
from statewise.wire import METADATA_KEY, CallShape, ModelSpec, StatePair, TensorSpec, from_tensor


def test_an_empty_batch_and_an_empty_row_never_reach_onnxruntime(repository: Path) -> None:
    package = read_package("steps", 1, repository / "steps" / "1")
    engine = Engine(package.graph, package.spec)
    for rows, lengths in ((0, []), (2, [1, 0])):
        with pytest.raises(ValueError, match="at least one"):
            engine.run(
                [np.zeros((1, rows, 3), np.float32)],
                np.array(lengths, np.int32),
                [np.zeros((rows, 16), np.float32)],
            )


def test_an_arena_hands_out_initial_states_and_knows_when_it_is_full() -> None:
    arena = StateArena([StatePair("s", "t", "float32", (2,), initial=0.5)], capacity=2)
    first, second = arena.take_row(), arena.take_row()
    with pytest.raises(MemoryError):
        arena.take_row()
    arena.scatter(np.array([2 * first, 2 * second]), [np.array([[1, 2], [3, 4]], np.float32)])
    arena.give_back(first)
    again = arena.take_row()
    assert again == first
    assert arena.gather(np.array([2 * first, 2 * second]))[0].tolist() == [[0.5, 0.5], [3, 4]]
    assert arena.bytes_per_session == 16


def test_an_arena_that_no_address_range_holds_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="bytes of addresses cannot be reserved"):
        StateArena([StatePair("s", "t", "float32", (2**50,))], capacity=2**20)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from(["float32", "float64", "int64", "uint8"]),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_digests_follow_rows_not_batches_and_see_every_element(
    lengths: list[int], dtype: str, width: int, random: np.random.Generator
) -> None:
    steps = np.array(lengths, np.uint32)
    values = np.array([random.randrange(200) for _ in range(sum(lengths) * width)], dtype).reshape(-1, width)
    rows = np.split(values, np.cumsum(lengths)[:-1])

    def digest(arrays: list[Any]) -> list[int]:
        sizes = np.array([len(array) for array in arrays], np.uint32)
        return digest_rows([np.concatenate(arrays)], per_step=[True], steps=sizes).tolist()

    together = digest_rows([values], per_step=[True], steps=steps).tolist()
    assert together == [digest([row])[0] for row in rows]
    if set(lengths) == {1}:
        assert digest_rows([values], per_step=[True], steps=None).tolist() == together
    chosen = random.randrange(len(rows))
    changed = rows[chosen].copy()
    place = random.randrange(changed.size)
    changed.flat[place] += 1
    assert digest([changed])[0] != together[chosen]


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=700))
def test_buckets_hold_every_row_once_and_little_padding(lengths: list[int]) -> None:
    sizes = np.array(lengths, np.uint32)
    buckets = list(buckets_of_like_length(np.arange(len(lengths)), sizes))
    assert sorted(itertools.chain.from_iterable(bucket.tolist() for bucket in buckets)) == list(
        range(len(lengths))
    )
    for bucket in buckets:
        own = sizes[bucket].astype(int)
        assert len(bucket) <= 256
        assert own.max() * len(own) <= 1.25 * own.sum()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "repository is not set: give --repository"),
        ({"repository": "r", "listen": "nowhere"}, "listen = 'nowhere': expected HOST:PORT"),
        ({"repository": "r", "store": "redis://"}, "store = 'redis://'"),
        ({"repository": "r", "sessions": 0}, "sessions = 0"),
        ({"repository": "r", "frobnicate": 1}, "frobnicate = 1: there is no such setting"),
        ({"repository": "r", "sesions": 1}, "sesions = 1: there is no such setting; is sessions meant?"),
        ({"repository": "r", "config": Path("nowhere.toml")}, "config = 'nowhere.toml': no such file"),
    ],
)
def test_settings_that_cannot_be_used_name_key_and_value(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as failure:
        Settings.load(**flags)
    assert str(failure.value).startswith(words)


@pytest.mark.parametrize("key", ["snapshot_key", "snapshot_kye", "Snapshot-Key"])
def test_a_secret_is_not_shown_when_it_cannot_be_used(tmp_path: Path, key: str) -> None:
    file = tmp_path / "statewise.toml"
    file.write_text(f'repository = "r"\n{key} = {["hunter2"]}\n')
    with pytest.raises(SettingsError, match=f"^{key}: ") as failure:
        Settings.load(config=file)
    assert "hunter2" not in str(failure.value)
    assert "hunter2" not in repr(Settings(repository=tmp_path, snapshot_key="hunter2"))


def test_the_key_of_snapshots_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("0123456789abcdef\n")
    assert Settings.load(repository=tmp_path, snapshot_key_file=file).signing_key() == b"0123456789abcdef"
    assert Settings.load(repository=tmp_path, snapshot_key="k").signing_key() == b"k"
    with pytest.raises(SettingsError, match="expected one of them"):
        Settings.load(repository=tmp_path, snapshot_key_file=file, snapshot_key="k")
    file.write_text("short\n")
    with pytest.raises(SettingsError, match=r"key': expected at least 16 bytes of key; got 5"):
        Settings.load(repository=tmp_path, snapshot_key_file=file)
    with pytest.raises(SettingsError, match=r"nowhere': No such file"):
        Settings.load(repository=tmp_path, snapshot_key_file=tmp_path / "nowhere")


def test_flags_go_over_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "statewise.toml"
    config.write_text('repository = "of the file"\nsessions = 1\ngrace_s = 1.0\nqueue_steps = 11\n')
    monkeypatch.setenv("STATEWISE_SESSIONS", "2")
    monkeypatch.setenv("STATEWISE_GRACE_S", "2")
    loaded = Settings.load(config=config, grace_s=3.0, listen=None)
    assert (loaded.queue_steps, loaded.sessions, loaded.grace_s) == (11, 2, 3.0)
    assert loaded.repository == Path("of the file")
    config.write_text("sessions = 'many'\nrepository = 'r'\n")
    monkeypatch.delenv("STATEWISE_SESSIONS")
    with pytest.raises(SettingsError, match="sessions = 'many'"):
        Settings.load(config=config)
    with pytest.raises(SettingsError, match="no such file"):
        Settings.load(config=tmp_path / "missing.toml")


async def test_a_row_whose_run_fails_fails_alone(tmp_path: Path) -> None:
    """A look-up whose index is out of range: the metadata does not say how far it goes, onnxruntime does."""
    spec = ModelSpec(
        inputs=(TensorSpec("x", "int64", ()),),
        outputs=(TensorSpec("y", "float32", (2,)),),
        state=(StatePair("s", "s_out", "float32", (2,)),),
        call_shapes=(CallShape.MANY_TO_MANY,),
    )
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["y"]),
            helper.make_node("ReduceSum", ["y", "time"], ["total"], keepdims=0),
            helper.make_node("Add", ["s", "total"], ["s_out"]),
        ],
        "look-up",
        [
            helper.make_tensor_value_info("x", TensorProto.INT64, ["T", "B"]),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, ["B", 2]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "B", 2]),
            helper.make_tensor_value_info("s_out", TensorProto.FLOAT, ["B", 2]),
        ],
        initializer=[
            numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "table"),
            numpy_helper.from_array(np.array([0], np.int64), "time"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    (tmp_path / "lookup" / "1").mkdir(parents=True)
    onnx.save(model, tmp_path / "lookup" / "1" / "model.onnx")
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("lookup", "a", "b", "c")
        for steps in (None, [1, 1, 1]):  # the lane of single steps, and that of long work
            position = 0 if steps is None else 1
            frame = caller.frame([(handle, position) for handle in handles], np.array([1, 9, 3]), steps=steps)
            if position:
                frame.positions = np.array([1, 0, 1], np.uint64).tobytes()
            reply = await caller.ask(step=frame)
            (error,) = reply.errors
            assert (error.row, error.reason, error.code) == (1, "INTERNAL", 13)
            assert from_tensor(reply.outputs["y"]).tolist() == [[2, 3], [6, 7]]
        good = await caller.ask(step=caller.frame([(handles[1], 0)], np.array([2])))
        assert from_tensor(good.outputs["y"]).tolist() == [[4, 5]]
