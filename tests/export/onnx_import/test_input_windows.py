"""Imports and verifies graphs of overlapping windows; the oracle is the file on windows of a stream."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.export.foreign_graphs import ForeignGraph, constant, make, pieces, run_package, tensor
from tests.helpers.models.foreign import MODELS

from statewise.export import SourceError, import_onnx, read_package, verify_package

FEATURES = 3


def window_sums(rows: str | int = "N", window: str | int = 5) -> ForeignGraph:
    """y [rows, 3] of a window [rows, 5, 3]: a weighed sum; h' = h + y."""
    nodes = [
        helper.make_node("Mul", ["x", "kernel"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "axis"], ["now"], keepdims=0),
        helper.make_node("Add", ["now", "h_in"], ["h_out"]),
        helper.make_node("Tanh", ["h_out"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", [rows, window, FEATURES]), tensor("h_in", [rows, FEATURES])],
        [tensor("y", [rows, FEATURES]), tensor("h_out", [rows, FEATURES])],
        [constant("kernel", 1, 5, FEATURES), constant("axis", values=np.array([1]))],
    )


@pytest.mark.parametrize("rows", ["N", 1])
@pytest.mark.parametrize("hop", [1, 2, 5])
def test_a_step_is_the_new_part_of_a_window(tmp_path: Path, rows: str | int, hop: int) -> None:
    foreign = window_sums(rows)
    package = import_onnx(
        foreign.save(tmp_path / "m.onnx"),
        tmp_path / "repository",
        axes={"x": ("batch", "time", FEATURES)},
        hops={"x": hop},
    )
    spec = read_package(package).spec
    assert spec.inputs[0].shape == (hop, FEATURES)
    x = np.random.default_rng(0).standard_normal((6, 2, hop, FEATURES)).astype(np.float32)

    y, _ = run_package(package, x)

    for row in range(2):
        stream = np.concatenate([np.zeros((5 - hop, FEATURES), np.float32), *x[:, row]])
        h = np.zeros((1, FEATURES), np.float32)
        for step in range(6):
            fed = {"x": stream[None, step * hop : step * hop + 5], "h_in": h}
            found = foreign.run(fed)
            h = found["h_out"]
            np.testing.assert_allclose(y[step, row], found["y"][0], atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(pieces(package, x)[0]), y)
    assert verify_package(package).passed


@pytest.mark.parametrize("name", ["window", "overlapping", "frame", "convolution"])
def test_what_the_server_keeps_in_front_is_verified(tmp_path: Path, name: str) -> None:
    MODELS[name]().publish(tmp_path / name / "1")
    report = verify_package(tmp_path / name / "1")
    assert report.passed, report.checks


def test_a_declared_hop_and_context_are_verified(tmp_path: Path) -> None:
    for number, entry in enumerate(("hop = 2", "context = 4"), start=1):
        folder = tmp_path / "m" / str(number)
        folder.mkdir(parents=True)
        window_sums().save(folder / "model.onnx")
        (folder / "model.toml").write_text(
            f'[[inputs]]\nname = "x"\naxes = ["batch", "time", 3]\n{entry}\n'
            '[[outputs]]\nname = "y"\naxes = ["batch", 3]\n'
            '[[state]]\ninput = "h_in"\noutput = "h_out"\naxes = ["batch", 3]\n'
        )
        report = verify_package(folder)
        assert report.passed, report.checks
        assert "are new" in report.checks[0].detail


@pytest.mark.parametrize(
    ("axes", "hops", "window", "complaint"),
    [
        ({"x": ("batch", "time", 3)}, {"x": 6}, 5, "expected 1 to the size of the window, 5; got 6"),
        ({}, {"x": 2}, 5, r"which axis is the window: name it time \(--axes x=batch,time,\.\.\.\)"),
        ({}, {"z": 2}, 5, "hop 'z': expected one of 'x', 'h_in'"),
        ({"x": ("batch", "time", 3)}, {"x": 2}, "T", r"a window of fixed size; give it one \(--size\)"),
    ],
)
def test_a_hop_that_does_not_fit_is_refused(
    tmp_path: Path,
    axes: dict[str, tuple[str | int, ...]],
    hops: dict[str, int],
    window: str | int,
    complaint: str,
) -> None:
    file = window_sums(window=window).save(tmp_path / "m.onnx")
    with pytest.raises(SourceError, match=complaint):
        import_onnx(file, tmp_path / "repository", axes=axes, hops=hops)
