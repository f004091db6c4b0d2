"""Serves folders whose model.toml is wrong: the failure names the entry, and the other models serve."""

import re
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.caller import connect
from tests.helpers.models.foreign import MODELS, lstm, one_row_with_a_rate, shared_rate
from tests.service.foreign.stepping import advance

from statewise.service.testing import running_server
from statewise.v1 import model_pb2

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

NO_LINE = {"no TOML", "no input left", "a successor of another shape"}
LINES = {
    "an unknown entry": "colour",
    "an unknown entry of a state": "initally",
    "a missing entry": "[[state]]",
    "a wrong type": 'axes = "time"',
    "an unknown input": 'name = "z"',
    "a wrong size": '["batch", "time", 4]',
    "time in a state": '[1, "time", 8]',
    "a wrong type of element": 'dtype = "float16"',
    "steps without a time axis": "per_step = true",
    "negative context": "context = -1",
    "an unknown lengths input": 'lengths = "n"',
}
"""What the line holds that a failure names, of some mistakes."""


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
        told = re.search(r"\(line (\d+)\)$", listed[0].failure)
        assert (told is None) is (mistake in NO_LINE), listed[0].failure
        if told is not None:
            assert LINES.get(mistake, "") in toml.splitlines()[int(told[1]) - 1]
        (handle,) = await caller.open("good", "a")
        await advance(caller, [(handle, 0)], [lstm().draw(np.random.default_rng(0), 2)])


async def test_other_mistakes(tmp_path: Path) -> None:
    """Mistakes that need another graph than the LSTM."""
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
            "input 'rate': context: expected 0 for an input that is the same for all rows or steps; got 1",
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


async def test_mistakes_about_windows(tmp_path: Path) -> None:
    """A hop that does not fit the window."""
    cases = {
        "hop": (
            MODELS["overlapping"](),
            MODELS["overlapping"]().toml.replace("hop = 2", "hop = 6"),
            "input 'x': hop: expected 1 to the size of the window, 5; got 6",
        ),
        "hop_of_any_time": (
            MODELS["convolution"](),
            MODELS["convolution"]().toml.replace("context = 2", "hop = 2"),
            "input 'x': hop: expected a time axis of fixed size, the window; the graph has "
            "['batch', 'time', 3]",
        ),
        "hop_and_context": (
            MODELS["overlapping"](),
            MODELS["overlapping"]().toml.replace("hop = 2", "hop = 2\ncontext = 3"),
            "inputs[0].hop: expected none beside context, which follows from it",
        ),
    }
    for name, (foreign, toml, _) in cases.items():
        foreign.publish(tmp_path / name / "1", toml=toml)
    async with running_server(tmp_path) as address, connect(address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
    failures = {model.name: model.failure for model in listed}
    for name, (_, _, words) in cases.items():
        assert words in failures[name]
