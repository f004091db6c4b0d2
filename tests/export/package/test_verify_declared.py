"""Verifies packages of several states, and graphs that a model.toml beside them declares."""

from pathlib import Path

import numpy as np
import pytest
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    ForeignGraph,
    lstm_with_state,
    one_row_with_a_rate,
    ring_buffer,
    step_cell,
    two_kinds_of_state,
)

from statewise.export import (
    Exactness,
    ExportError,
    PackageError,
    SourceError,
    VerifyReport,
    import_onnx,
    verify_package,
)

CELL = f"""
[[inputs]]
name = "x"
axes = ["batch", {INPUTS}]
[[outputs]]
name = "y"
axes = ["batch", 2]
[[state]]
input = "hidden_in"
output = "hidden_out"
axes = ["batch", {HIDDEN}]
"""


def publish(folder: Path, foreign: ForeignGraph, toml: str) -> Path:
    folder.mkdir(parents=True)
    foreign.save(folder / "model.onnx")
    (folder / "model.toml").write_text(toml)
    return folder


def names(report: VerifyReport, *, passed: bool) -> list[str]:
    return [check.name for check in report.checks if check.passed == passed]


def test_a_package_with_states_of_two_types(tmp_path: Path) -> None:
    package = import_onnx(two_kinds_of_state().save(tmp_path / "m.onnx"), tmp_path / "repository")

    report = verify_package(package)

    assert report.passed, report.checks
    assert "step by step = whole" in names(report, passed=True)


def test_a_graph_that_is_declared_beside_it(tmp_path: Path) -> None:
    report = verify_package(publish(tmp_path / "m" / "1", step_cell(), CELL))

    assert report.passed, report.checks
    assert report.package == tmp_path / "m" / "1"
    assert names(report, passed=True)[0] == "as model.toml declares = the file alone"
    assert "alone = batched" in names(report, passed=True)


def test_a_declared_default_is_the_input_s_value(tmp_path: Path) -> None:
    toml = """
    [[inputs]]
    name = "input"
    axes = ["batch", "time"]
    [[inputs]]
    name = "sr"
    default = 2
    [[state]]
    input = "state"
    output = "stateN"
    axes = [2, "batch", 8]
    """
    report = verify_package(publish(tmp_path / "m" / "1", one_row_with_a_rate(), toml))

    assert report.passed, report.checks
    assert report.exactness is Exactness.EXACT


RING = f"""
[[inputs]]
name = "x"
axes = ["batch", {INPUTS}]
[[state]]
input = "buffer"
output = "new_buffer"
axes = ["batch", 4, {INPUTS}]
initial = """
"""A state that is a matrix; `initial` follows."""


@pytest.mark.parametrize("initial", ['"start.npy"', str([[-1e30] * INPUTS, *[[0.0] * INPUTS] * 3])])
def test_a_declared_state_begins_as_a_file_or_a_list_says(tmp_path: Path, initial: str) -> None:
    folder = publish(tmp_path / "m" / "1", ring_buffer(), RING + initial)
    start = np.zeros((4, INPUTS), np.float32)
    start[0] = -1e30
    np.save(folder / "start.npy", start)

    report = verify_package(folder)

    assert report.passed, report.checks
    assert report.exactness is Exactness.EXACT


@pytest.mark.parametrize(
    ("initial", "complaint"),
    [
        ("absent.npy", "expected the name of an .npy file in the version's folder"),
        ("../outside.npy", "expected the name of an .npy file in the version's folder"),
        ("model.toml", "expected a .npy file"),
        ("short.npy", r"expected shape \[4, 3\]; got \[2\]"),
    ],
)
def test_files_that_are_no_initial_state(tmp_path: Path, initial: str, complaint: str) -> None:
    folder = publish(tmp_path / "m" / "1", ring_buffer(), f'{RING}"{initial}"')
    np.save(tmp_path / "m" / "outside.npy", np.zeros((4, INPUTS), np.float32))
    np.save(folder / "short.npy", np.zeros(2, np.float32))

    with pytest.raises(SourceError, match=f"initial 'buffer': {complaint}"):
        verify_package(folder)


def test_sessions_of_a_graph_that_reads_backwards_fail(tmp_path: Path) -> None:
    toml = """
    [[inputs]]
    name = "x"
    axes = ["time", "batch", 3]
    [[state]]
    input = "h0"
    output = "hn"
    axes = [1, "batch", 8]
    [[state]]
    input = "c0"
    output = "cn"
    axes = [1, "batch", 8]
    """
    report = verify_package(publish(tmp_path / "m" / "1", lstm_with_state("reverse"), toml))

    assert names(report, passed=False) == ["step by step = whole"]


@pytest.mark.parametrize(
    ("toml", "error", "complaint"),
    [
        (
            CELL.replace('["batch", 3]', '["batch", 4]'),
            SourceError,
            "axes of 'x': expected sizes as the graph",
        ),
        (CELL.replace('"hidden_out"', '"h"'), SourceError, "state 'h': expected one of"),
        (CELL.replace('["batch", 2]', '[2, "batch"]'), SourceError, "output 'y': expected axes"),
        (
            CELL.replace('["batch", 3]', '["batch", 3]\nhop = 4'),
            SourceError,
            "hop 'x': expected 1 to the size of the window, 3; got 4",
        ),
        ("inputs = 1", PackageError, "model.toml: inputs: expected a list"),
    ],
)
def test_a_declaration_that_does_not_hold_is_one_line(
    tmp_path: Path, toml: str, error: type[ExportError], complaint: str
) -> None:
    folder = publish(tmp_path / "m" / "1", step_cell(), toml)

    with pytest.raises(error, match=complaint) as refusal:
        verify_package(folder)
    assert "\n" not in str(refusal.value)


def test_a_graph_without_any_declaration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"expected metadata .*statewise import.* model\.toml"):
        verify_package(step_cell().save(tmp_path / "m.onnx"))
