"""Serves graphs that statewise did not make, as their model.toml declares them, and compares every answer.

The oracle is the file itself, run alone in onnxruntime, once a step and session.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import connect
from tests.helpers.models.foreign import MODELS, shared_rate
from tests.service.foreign.stepping import advance, request

from statewise.export import import_onnx
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2
from statewise.wire import (
    from_tensor,
    pack_uint32,
    pack_uint64,
    to_tensor,
    unpack_uint32,
)


@pytest.mark.parametrize("name", MODELS)
async def test_two_interleaved_sessions_answer_as_the_graph_alone(
    tmp_path: Path, random: np.random.Generator, name: str
) -> None:
    foreign = MODELS[name]()
    foreign.publish(tmp_path / "m" / "1")
    own = [foreign.draw(random, 12), foreign.draw(random, 12)]
    said: list[list[dict[str, Array]]] = [[], []]
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("m", "a", "b")
        # One step of each in turn, both in one message, and stretches of unequal length in one message.
        at = [0, 0]

        async def move(turn: Sequence[tuple[int, int]]) -> None:
            sessions = [(handles[one], at[one]) for one, _ in turn]
            rows = [own[one][at[one] : at[one] + steps] for one, steps in turn]
            outputs = await advance(caller, sessions, rows)
            begin = 0
            for one, steps in turn:
                said[one].append({key: value[begin : begin + steps] for key, value in outputs.items()})
                at[one] += steps
                begin += steps

        for turn in (
            [(0, 1)],
            [(1, 1)],
            [(0, 1)],
            [(1, 1), (0, 1)],
            [(0, 4), (1, 2)],
            [(1, 3)],
            [(0, 2), (1, 2)],
        ):
            await move(turn)
        await move([(0, 12 - at[0]), (1, 12 - at[1])])
    for one in (0, 1):
        expected = foreign.alone(own[one])
        for key in foreign.outputs:
            got = np.concatenate([part[key] for part in said[one]])
            assert got.tobytes() == expected[key].tobytes(), key


@pytest.mark.parametrize("name", MODELS)
async def test_whole_sequences_of_unequal_length_answer_as_the_graph_alone(
    tmp_path: Path, random: np.random.Generator, name: str
) -> None:
    foreign = MODELS[name]()
    foreign.publish(tmp_path / "m" / "1")
    own = [foreign.draw(random, steps) for steps in (3, 7, 1, 7)]
    asked = sequence_pb2.PredictRequest(
        model="m",
        lengths=pack_uint32([len(steps) for steps in own]),
        inputs={
            key: to_tensor(np.stack([step[key] for steps in own for step in steps]))
            for key in foreign.samples
        },
    )
    rows: dict[int, dict[str, Array]] = {}
    async with running_server(tmp_path) as address, connect(address) as caller:
        async for part in caller.sequences.Predict(asked):
            assert not part.errors
            ends = np.cumsum(unpack_uint32(part.lengths))[:-1]
            for number, row in enumerate(unpack_uint32(part.rows).tolist()):
                rows[row] = {
                    key: np.split(from_tensor(value), ends)[number] for key, value in part.outputs.items()
                }
    assert sorted(rows) == [0, 1, 2, 3]
    for row, steps in enumerate(own):
        for key, expected in foreign.alone(steps).items():
            assert rows[row][key].tobytes() == expected.tobytes(), key


@pytest.mark.parametrize("name", ["lstm", "two_kinds", "one_row", "ring_buffer"])
async def test_what_the_importer_finds_is_served_too(
    tmp_path: Path, random: np.random.Generator, name: str
) -> None:
    """The importer is told nothing but the rate; the states that it finds begin as zeros."""
    foreign = MODELS[name]()
    foreign = replace(foreign, state={key: np.zeros_like(value) for key, value in foreign.state.items()})
    onnx.save(foreign.proto, tmp_path / "m.onnx")
    import_onnx(
        tmp_path / "m.onnx", tmp_path / "repository", constants={"sr": 2} if name == "one_row" else {}
    )
    own = [foreign.draw(random, 5), foreign.draw(random, 5)]
    said: list[list[dict[str, Array]]] = [[], []]
    async with running_server(tmp_path / "repository") as address, connect(address) as caller:
        handles = await caller.open("m", "a", "b")
        for t in range(5):
            for one in (0, 1):
                said[one].append(await advance(caller, [(handles[one], t)], [own[one][t : t + 1]]))
    for one in (0, 1):
        for key, expected in foreign.alone(own[one]).items():
            got = np.concatenate([part[key] for part in said[one]])
            np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-6)


async def test_rows_with_other_shared_inputs_do_not_share_a_run(
    tmp_path: Path, random: np.random.Generator
) -> None:
    """Callers may give a rate a row; the graph takes one rate a run."""
    foreign = shared_rate()
    foreign.publish(tmp_path / "m" / "1")
    rates = [3.0, 2.0, 3.0, 5.0]
    own = [
        [{**step, "rate": np.array(rate, np.float32)} for step in foreign.draw(random, 5)] for rate in rates
    ]
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("m", *"abcd")
        asked = request([(handle, 0) for handle in handles], own)
        asked.inputs["rate"].CopyFrom(to_tensor(np.array(rates, np.float32)[:, None]))
        y = from_tensor((await caller.ask(step=asked)).outputs["y"])
        del asked.inputs["rate"]
        asked.positions = pack_uint64([5] * 4)
        by_default = from_tensor((await caller.ask(step=asked)).outputs["y"])
    for row, steps in enumerate(own):
        more = [{**step, "rate": np.array(7, np.float32)} for step in steps]
        expected = foreign.alone([*steps, *more])["y"]
        assert y[5 * row : 5 * row + 5].tobytes() == expected[:5].tobytes()
        assert by_default[5 * row : 5 * row + 5].tobytes() == expected[5:].tobytes()


async def test_states_of_every_kind_can_be_held(tmp_path: Path, random: np.random.Generator) -> None:
    for name in ("half", "two_kinds", "frame"):
        MODELS[name]().publish(tmp_path / name / "1")
    async with running_server(tmp_path) as address, connect(address) as caller:
        for name in ("half", "two_kinds", "frame"):
            foreign = MODELS[name]()
            steps = foreign.draw(random, 6)
            (key,) = foreign.outputs
            expected = foreign.alone(steps)[key][3:].tobytes()
            (handle,) = await caller.open(name, f"{name} a")
            await advance(caller, [(handle, 0)], [steps[:3]])
            handles = pack_uint64([handle])
            (token,) = (
                await caller.ask(snapshot=sequence_pb2.SnapshotSessionsRequest(handles=handles))
            ).tokens
            twins = [
                await caller.ask(
                    fork=sequence_pb2.ForkSessionsRequest(handles=handles, session_ids=[f"{name} b"])
                ),
                await caller.ask(
                    restore=sequence_pb2.RestoreSessionsRequest(tokens=[token], session_ids=[f"{name} c"])
                ),
            ]
            await advance(caller, [(handle, 3)], [foreign.draw(random, 1)])
            back = sequence_pb2.RewindSessionsRequest(handles=handles, positions=pack_uint64([3]))
            assert not (await caller.ask(rewind=back)).errors
            for one in (handle, *(twin.sessions[0].handle for twin in twins)):
                assert (await advance(caller, [(one, 3)], [steps[3:]]))[key].tobytes() == expected
