"""Graphs that statewise did not make, served by what their model.toml says.

The oracle is the file itself, run alone in onnxruntime, once a step and session.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.foreign_models import MODELS, lstm, one_row_with_a_rate, shared_rate

from statewise.export import import_onnx
from statewise.service.testing import running_server
from statewise.v1 import model_pb2, sequence_pb2
from statewise.wire import (
    METADATA_KEY,
    CallShape,
    ModelSpec,
    StatePair,
    TensorSpec,
    from_tensor,
    pack_uint32,
    pack_uint64,
    to_tensor,
    unpack_uint32,
)

Steps = Sequence[Mapping[str, Any]]


def request(sessions: Sequence[tuple[int, int]], rows: Sequence[Steps]) -> sequence_pb2.StepRequest:
    """A frame of sessions (handle, position), each with its steps; what is the same for all is given once."""
    names = rows[0][0].keys()
    return sequence_pb2.StepRequest(
        handles=pack_uint64([handle for handle, _ in sessions]),
        positions=pack_uint64([position for _, position in sessions]),
        steps=pack_uint32([len(steps) for steps in rows]),
        inputs={name: to_tensor(np.stack([s[name] for steps in rows for s in steps])) for name in names},
    )


async def advance(caller: Caller, sessions: Sequence[tuple[int, int]], rows: Sequence[Steps]) -> Any:
    reply = await caller.ask(step=request(sessions, rows))
    assert not reply.errors, reply.errors
    return {name: from_tensor(tensor) for name, tensor in reply.outputs.items()}


@pytest.mark.parametrize("name", MODELS)
async def test_two_interleaved_sessions_answer_as_the_graph_alone(
    tmp_path: Path, random: np.random.Generator, name: str
) -> None:
    foreign = MODELS[name]()
    foreign.publish(tmp_path / "m" / "1")
    own = [foreign.draw(random, 12), foreign.draw(random, 12)]
    said: list[list[Any]] = [[], []]
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
    rows: dict[int, dict[str, Any]] = {}
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
    """Without a word from us, but for the rate; states that the importer finds begin as zeros."""
    foreign = MODELS[name]()
    foreign = replace(foreign, state={key: np.zeros_like(value) for key, value in foreign.state.items()})
    onnx.save(foreign.proto, tmp_path / "m.onnx")
    import_onnx(
        tmp_path / "m.onnx", tmp_path / "repository", constants={"sr": 2} if name == "one_row" else {}
    )
    own = [foreign.draw(random, 5), foreign.draw(random, 5)]
    said: list[list[Any]] = [[], []]
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
    """A rate that callers may give for a request, of which the graph takes one a run."""
    foreign = shared_rate()
    foreign.publish(tmp_path / "m" / "1")
    rates = [3.0, 2.0, 3.0, 5.0]
    own = [[{**step, "rate": np.float32(rate)} for step in foreign.draw(random, 5)] for rate in rates]
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("m", *"abcd")
        asked = request([(handle, 0) for handle in handles], own)
        asked.inputs["rate"].CopyFrom(to_tensor(np.array(rates, np.float32)[:, None]))
        y = from_tensor((await caller.ask(step=asked)).outputs["y"])
        del asked.inputs["rate"]
        asked.positions = pack_uint64([5] * 4)
        by_default = from_tensor((await caller.ask(step=asked)).outputs["y"])
    for row, steps in enumerate(own):
        more = [{**step, "rate": np.float32(7)} for step in steps]
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


async def test_callers_see_one_sample_and_not_the_graph(tmp_path: Path) -> None:
    for name in ("one_row", "window"):
        MODELS[name]().publish(tmp_path / name / "1")
    async with running_server(tmp_path) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
    seen = {
        model.name: [
            (
                entry.name,
                list(entry.shape),
                entry.per_step,
                entry.default_value if entry.HasField("default_value") else None,
            )
            for entry in [*model.inputs, *model.outputs]
        ]
        for model in listed
    }
    assert seen == {
        "one_row": [("frame", [3], True, None), ("sr", [], False, 2.0), ("speech", [], True, None)],
        "window": [("x", [3], True, None), ("y", [3], True, None)],
    }
    assert [(model.state_bytes, model.streamable) for model in listed] == [
        (2 * 8 * 4, True),
        (3 * 3 * 4, True),
    ]


LSTM = lstm().toml
BAD = {
    "no TOML": ("inputs = [", "model.toml: no TOML"),
    "an unknown entry": ("colour = 1", "model.toml: colour: no entry of that name is known"),
    "an unknown entry of a state": (
        '[[state]]\ninput = "h0"\noutput = "hn"\ninitally = 1',
        "state[0].initally: no entry of that name is known",
    ),
    "a missing entry": ('[[state]]\ninput = "h0"', "state[0].output: expected this entry; it is absent"),
    "a wrong type": ('[[inputs]]\nname = "x"\naxes = "time"', "inputs[0].axes: expected a list; got 'time'"),
    "a wrong word": (
        '[[inputs]]\nname = "x"\naxes = ["batch", "tiem", 3]',
        'inputs[0].axes: expected "batch", "time" or a positive size; got \'tiem\'',
    ),
    "a wrong kind of axis": (
        '[[inputs]]\nname = "x"\naxes = ["batch", 1.5, 3]',
        "inputs[0].axes[1]: expected text or an integer; got 1.5",
    ),
    "an axis twice": (
        LSTM.replace('["batch", "time", 3]', '["batch", "batch", 3]'),
        "inputs[0].axes: expected batch and time once at most; got ['batch', 'batch', 3]",
    ),
    "an unknown policy": ('batch = "always"', "batch: expected one of exact, tolerance; got 'always'"),
    "an unknown state input": (
        LSTM.replace('"h0"', '"h9"'),
        "state: expected one of the graph's inputs, 'x', 'h0', 'c0'; got 'h9'",
    ),
    "an unknown state output": (
        LSTM.replace('"hn"', '"h9"'),
        "state: expected one of the graph's outputs, 'y', 'hn', 'cn'; got 'h9'",
    ),
    "a successor twice": (LSTM.replace('"cn"', '"hn"'), "state 'hn': expected in one pair; it is in 2"),
    "an unknown input": (
        LSTM.replace('name = "x"', 'name = "z"'),
        "input: expected one of the graph's inputs, 'x', 'h0', 'c0'; got 'z'",
    ),
    "a state that is an input too": (
        LSTM + '[[inputs]]\nname = "h0"\n',
        "input 'h0': expected a name that is no state; it is declared as one",
    ),
    "a successor of another shape": (
        LSTM.replace('"hn"', '"y"')
        .replace('name = "y"', 'name = "hn"')
        .replace('["batch", "time", 8]', '[1, "batch", 8]'),
        "bad/1: 'y': expected [1, 2, 8] of the graph; got [2, 9, 8]",
    ),
    "no input left": (
        '[[state]]\ninput="h0"\noutput="hn"\naxes=[1,"batch",8]\n'
        '[[state]]\ninput="c0"\noutput="cn"\naxes=[1,"batch",8]\n'
        '[[state]]\ninput="x"\noutput="y"\naxes=["batch",4,3]',
        "inputs: expected at least one beside the state; got none",
    ),
    "too few axes": (
        LSTM.replace('["batch", "time", 3]', '["batch", 3]'),
        "input 'x': axes: expected 3, as the graph has ['N', 'L', 3]; got ['batch', 3]",
    ),
    "a wrong size": (
        LSTM.replace('["batch", "time", 3]', '["batch", "time", 4]'),
        "input 'x': axes: expected sizes as the graph has them, ['N', 'L', 3]",
    ),
    "names that do not say": (
        "\n".join(line for line in LSTM.splitlines() if "axes" not in line),
        """axes: expected in model.toml which of [1, 'N', 8] are "batch" and "time\"""",
    ),
    "time in a state": (
        LSTM.replace('[1, "batch", 8]', '[1, "time", 8]'),
        "state 'h0': axes: expected no time; got [1, 'time', 8]",
    ),
    "a wrong type of element": (
        LSTM.replace('name = "x"', 'name = "x"\ndtype = "float16"'),
        "input 'x': dtype: expected the graph's, float32; got float16",
    ),
    "tokens that are no integers": (
        LSTM.replace('name = "x"', 'name = "x"\nvocabulary_size = 3'),
        "input 'x': vocabulary_size: expected an input of integers; it is float32",
    ),
    "steps without a time axis": (
        LSTM.replace('["batch", "time", 8]', '["batch", 4, 8]').replace(
            'name = "y"', 'name = "y"\nper_step = true'
        ),
        "output 'y': per_step: expected false, for it has no time axis; got true",
    ),
    "a time axis without steps": (
        LSTM.replace('name = "x"', 'name = "x"\nper_step = false'),
        "input 'x': per_step: expected true, for it has a time axis; got false",
    ),
    "negative context": (
        LSTM.replace('name = "x"', 'name = "x"\ncontext = -1'),
        "inputs[0].context: expected at least 0; got -1",
    ),
    "an unknown lengths input": ('lengths = "n"\n' + LSTM, "lengths: expected one of the graph's inputs"),
    "lengths that are no lengths": (
        'lengths = "x"\n'
        + LSTM.replace('[[inputs]]\n        name = "x"\n        axes = ["batch", "time", 3]', ""),
        "lengths: expected an int32 or int64 input of one axis; got float32 ['N', 'L', 3]",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
async def test_a_mistaken_model_toml_is_refused_by_name_and_the_others_serve(
    tmp_path: Path, mistake: str
) -> None:
    toml, words = BAD[mistake]
    lstm().publish(tmp_path / "bad" / "1", toml=toml)
    lstm().publish(tmp_path / "good" / "1")
    async with running_server(tmp_path) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
        assert [(model.name, model.status) for model in listed] == [
            ("bad", model_pb2.MODEL_STATUS_FAILED),
            ("good", model_pb2.MODEL_STATUS_READY),
        ]
        assert listed[0].failure.startswith("bad/1")
        assert words in listed[0].failure
        (handle,) = await caller.open("good", "a")
        await advance(caller, [(handle, 0)], [lstm().draw(np.random.default_rng(0), 2)])


async def test_other_mistakes(tmp_path: Path) -> None:
    """Those that need another graph than the LSTM."""
    cases = {
        "bare": (
            lstm(),
            "",
            "bare/1/model.onnx has no 'statewise' metadata, and no model.toml beside it declares its state: "
            "make a package of it with `statewise import`, or write one. The graph takes "
            "x float32 ['N', 'L', 3], h0 float32 [1, 'N', 8], c0 float32 [1, 'N', 8] and gives "
            "y float32 ['N', 'L', 8], hn float32 [1, 'N', 8], cn float32 [1, 'N', 8]",
        ),
        "context": (
            MODELS["frame"](),
            MODELS["frame"]().toml.replace("context = 2", "context = 6"),
            "input 'frame': context: expected less than the last axis of ['batch', 6]; got 6",
        ),
        "shared": (
            shared_rate(),
            shared_rate().toml.replace("default = 7", "context = 1"),
            "input 'rate': context: expected 0 for what is the same for all rows or steps; got 1",
        ),
        "lengths": (
            MODELS["lengths"](),
            MODELS["lengths"]().toml + '[[inputs]]\nname = "x"\ncontext = 2\n',
            "lengths: expected none beside an input with context; got 'n'",
        ),
        "batch_axis": (
            MODELS["lengths"](),
            MODELS["lengths"]().toml.replace("batch_axis = 1", "batch_axis = 2"),
            "state 'c0': axes: expected sizes as the graph has them, [1, 'N', 8], with batch free or 1; "
            "got [1, 8, 'batch']",
        ),
        "default": (
            one_row_with_a_rate(),
            one_row_with_a_rate().toml.replace("default = 2", "default = 2.5"),
            "input 'sr': default: expected a whole number for int64; got 2.5",
        ),
        "initial": (
            MODELS["two_kinds"](),
            MODELS["two_kinds"]().toml.replace("initial = 2", "initial = 2.5"),
            "state 'count': initial: expected a whole number for int64; got 2.5",
        ),
        "time": (
            MODELS["window"](),
            MODELS["window"]().toml.replace("context = 3", "context = 2"),
            "with batch free or 1 and time free or 3; got ['batch', 'time', 3]",
        ),
        "valid": (
            MODELS["convolution"](),
            MODELS["convolution"]().toml.replace("context = 2", "context = 1"),
            "valid/1: 'y': expected [2, 9, 3] of the graph; got [2, 8, 3]",
        ),
    }
    for name, (foreign, toml, _) in cases.items():
        foreign.publish(tmp_path / name / "1", toml=toml)
    async with running_server(tmp_path) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
    failures = {model.name: model.failure for model in listed}
    for name, (_, _, words) in cases.items():
        assert words in failures[name]


async def test_metadata_may_say_that_rows_are_another_axis_of_the_state(
    tmp_path: Path, random: np.random.Generator
) -> None:
    foreign = MODELS["lengths"]()
    spec = ModelSpec(
        inputs=(TensorSpec("x", "float32", (3,)),),
        outputs=(TensorSpec("y", "float32", (8,)),),
        state=(
            StatePair("h0", "hn", "float32", (1, 8), batch_axis=1),
            StatePair("c0", "cn", "float32", (1, 8), batch_axis=1),
        ),
        call_shapes=(CallShape.MANY_TO_MANY,),
        lengths="n",
    )
    onnx.helper.set_model_props(foreign.proto, {METADATA_KEY: spec.to_json()})
    foreign.publish(tmp_path / "m" / "1", toml="")
    own = [foreign.draw(random, 3), foreign.draw(random, 7)]
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("m", "a", "b")
        y = (await advance(caller, [(handle, 0) for handle in handles], own))["y"]
    expected = [foreign.alone(steps)["y"] for steps in own]
    assert y.tobytes() == np.concatenate(expected).tobytes()


async def test_model_toml_overrides_what_metadata_says(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "last" / "1").mkdir(parents=True)
    source = repository / "last" / "1" / "model.onnx"
    (tmp_path / "last" / "1" / "model.onnx").write_bytes(source.read_bytes())
    (tmp_path / "last" / "1" / "model.toml").write_text(
        'labels = ["no", "yes"]\n[[inputs]]\nname = "x"\ndefault = 0.5\n[[state]]\ninput = "state"\n'
        'output = "state_out"\ninitial = 0.25\n[notes]\nwhose = "ours"\n'
    )
    async with running_server(tmp_path) as address, connect(address) as caller:
        model = (await caller.models.GetModel(model_pb2.GetModelRequest(name="last"))).model
        assert (list(model.labels), dict(model.notes)) == (["no", "yes"], {"whose": "ours"})
        assert model.inputs[0].default_value == 0.5
        assert model.exactness == model_pb2.EXACTNESS_EXACT
        asked = sequence_pb2.PredictRequest(model="last", lengths=pack_uint32([3]), return_labels=True)
        reply = await caller.sequences.Predict(asked).read()
    session = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    feeds = {"x": np.full((3, 1, 3), 0.5, np.float32), "lengths": np.array([3], np.int32)}
    y = session.run(["y"], {**feeds, "state": np.full((1, 16), 0.25, np.float32)})[0]
    assert from_tensor(reply.outputs["y"]).tobytes() == y.tobytes()
    assert list(reply.labels) == [("no", "yes")[int(y.argmax())]]
