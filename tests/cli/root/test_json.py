"""Checks that the command writes JSON that every program reads, and names what it cannot read."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import pytest
from tests.cli.command import statewise

from statewise.cli._terminal import read_json_array, to_json
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import server_in_thread

NAN, INFINITY = float("nan"), float("inf")


def strict(text: str) -> Any:
    """Reads JSON as other programs do, which refuse Python's NaN and Infinity."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "read", "count"),
    [
        ([1.5, 2], [1.5, 2], 0),
        ([NAN, 1.0, [INFINITY, -INFINITY]], [None, 1.0, [None, None]], 3),
        ({"a": {"b": (NAN,)}, "c": "NaN"}, {"a": {"b": [None]}, "c": "NaN"}, 1),
    ],
)
def test_numbers_that_are_not_finite_become_null_and_are_counted(value: Any, read: Any, count: int) -> None:
    text, counted = to_json(value)
    assert (strict(text), counted) == (read, count)
    assert "\n" not in text


def printed(value: str, encoding: str = "utf-8") -> str:
    script = f"from statewise.cli._terminal import print_json; print_json({value})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONIOENCODING": encoding}
    )
    assert done.stderr == ""
    return done.stdout


def test_an_object_counts_what_is_null() -> None:
    assert strict(printed("{'rmse': float('nan'), 'loss': [float('inf'), 2.0]}")) == {
        "rmse": None,
        "loss": [None, 2.0],
        "not_finite": 2,
    }
    assert printed("{'rmse': 1.5}") == '{"rmse": 1.5}\n'


def test_texts_that_stdout_cannot_encode_are_escaped() -> None:
    assert printed("{'a': 'ä'}") == '{"a": "ä"}\n'
    assert printed("{'a': 'ä'}", "ascii") == '{"a": "\\u00e4"}\n'
    assert printed("{'a': '\\ud800'}") == '{"a": "\\ud800"}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "expected a JSON array; got '[[[[[[[[[[[[[[[[[[[[[[[[["),
        ("[" * 100_000 + "]" * 100_000, "(nested too deeply)"),
        ("[" + "1" * 5000 + "]", "(Exceeds the limit (4300 digits)"),
        ('{"a": 1}', "expected a JSON array; got '{\"a\": 1}'"),
        ("[1, [true]]", "expected numbers; got true"),
        ("[1, null]", "expected numbers; a value is missing (null)"),
        ('[{"a": 1}]', 'expected numbers; got {"a": 1}'),
    ],
)
def test_what_is_no_array_of_numbers_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_json_array(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("depth", [1, 50, 900])
def test_nested_arrays_are_read(depth: int) -> None:
    assert read_json_array("[" * depth + "1" + "]" * depth)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with `huge`, whose outputs are 4e30 times the sum of its inputs, above 0."""
    spec = NetworkSpec(input_size=2, output_size=2, cell="rnn", activation="relu", hidden_size=4)
    large = {"layer0.forward.W": 1.0, "head.V": 1e30}
    parameters = {
        name: np.full(shape, large.get(name, 0), np.float32)
        for name, shape in spec.parameter_shapes().items()
    }
    network = Network(spec, parameters)
    folder = tmp_path_factory.mktemp("huge")
    export_checkpoint(Checkpoint(network=network), folder, name="huge")
    with server_in_thread(folder) as address:
        yield address


def test_stream_prints_null_for_what_is_not_finite_and_tells_the_count(target: str) -> None:
    done = statewise("stream", "--target", target, "--model", "huge", stdin="[1, 0]\n[1e9, 1]\n[1, 1e9]\n")
    first, *others = [strict(line) for line in done.out.splitlines()]
    assert (done.code, first) == (0, pytest.approx([4e30, 4e30]))
    assert others == [[None, None]] * 2
    assert done.err == "4 numbers of the outputs are not finite: they are null\n"


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        (b"[0, true]", "line 2: expected numbers; got true"),
        (b"[0, null]", "line 2: expected numbers; a value is missing (null)"),
        (b"[" * 100_000, "line 2: expected a JSON array; got '[[[["),
        (b'["\\ud800", 0]', "line 2: "),
        (b"[0, \xff]", "line 2: expected UTF-8 text, byte 4 of the line is not"),
        (b"[1e999, 0]", "line 2: "),
        (b"[[[[0]]]]", "line 2: "),
    ],
)
def test_what_is_typed_wrong_is_told_with_its_line(target: str, typed: bytes, complaint: str) -> None:
    lines = b"\xef\xbb\xbf[0, 0]\n" + typed + b"\n[0, 0]\n"
    done = statewise("stream", "--target", target, "--model", "huge", stdin=lines)
    assert (done.code, done.out.count("\n")) == (1, 1)
    assert done.err.startswith("statewise: " + complaint)
    assert done.err.count("\n") == 1


def test_a_prompt_that_is_no_array_is_wrong_usage(target: str) -> None:
    for prompt in ("[" * 100_000, "[[1, true]]", "{}"):
        done = statewise("generate", "--target", target, "--model", "huge", "--prompt", prompt)
        assert done.code == 2
        assert "Traceback" not in done.err
