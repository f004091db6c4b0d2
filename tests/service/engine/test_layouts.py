"""Runs a running sum with batch and time on any axes, free or fixed, and compares the numbers."""

import itertools
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from statewise.service.engine import Engine
from statewise.service.packages import read_package

Axes = tuple[str, ...]
F = 2
WORDS = ("time", "batch", "feature")
ORDERS = list(itertools.permutations(WORDS))
STATE_ORDERS = [("batch", "feature"), ("feature", "batch")]


def running_sum(x_axes: Axes, s_axes: Axes, y_axes: Axes, fixed: set[str]) -> onnx.ModelProto:
    """y[t] = s + x[0] + ... + x[t]; the next s is y[-1]. Axes named in `fixed` have size 1."""
    node = helper.make_node

    def dims(axes: Axes) -> list[int | str]:
        return [F if word == "feature" else 1 if word in fixed else f"{word} of it" for word in axes]

    def order(source: Axes, target: Axes) -> list[int]:
        return [source.index(word) for word in target]

    nodes = [
        node("Transpose", ["x"], ["x_ours"], perm=order(x_axes, WORDS)),
        node("Transpose", ["s"], ["s_ours"], perm=order(s_axes, WORDS[1:])),
        node("CumSum", ["x_ours", "zero"], ["sums"]),
        node("Add", ["sums", "s_ours"], ["y_ours"]),
        node("Transpose", ["y_ours"], ["y"], perm=order(WORDS, y_axes)),
        node("Gather", ["y_ours", "last"], ["s_after"], axis=0),
        node("Transpose", ["s_after"], ["s_out"], perm=order(WORDS[1:], s_axes)),
    ]

    def value(name: str, axes: Axes) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims(axes))

    constants = [
        numpy_helper.from_array(np.array(n, np.int64), name) for name, n in (("zero", 0), ("last", -1))
    ]
    inputs, outputs = [value("x", x_axes), value("s", s_axes)], [value("y", y_axes), value("s_out", s_axes)]
    graph = helper.make_graph(nodes, "sums", inputs, outputs, initializer=constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def toml(x_axes: Axes, s_axes: Axes, y_axes: Axes) -> str:
    def said(axes: Axes) -> str:
        return "[" + ", ".join(str(F) if word == "feature" else f'"{word}"' for word in axes) + "]"

    return (
        f'[[inputs]]\nname = "x"\naxes = {said(x_axes)}\n'
        f'[[outputs]]\nname = "y"\naxes = {said(y_axes)}\n'
        f'[[state]]\ninput = "s"\noutput = "s_out"\naxes = {said(s_axes)}\n'
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@settings(max_examples=80, deadline=None)
@given(
    x_axes=st.sampled_from(ORDERS),
    y_axes=st.sampled_from(ORDERS),
    s_axes=st.sampled_from(STATE_ORDERS),
    fixed=st.sets(st.sampled_from(["time", "batch"])),
    rows=st.integers(1, 4),
    steps=st.integers(1, 5),
    random=st.randoms(use_true_random=False),
)
def test_every_layout_gives_the_same_numbers(
    folder: Path,
    x_axes: Axes,
    y_axes: Axes,
    s_axes: Axes,
    fixed: set[str],
    rows: int,
    steps: int,
    random: Random,
) -> None:
    onnx.save(running_sum(x_axes, s_axes, y_axes, fixed), folder / "model.onnx")
    (folder / "model.toml").write_text(toml(x_axes, s_axes, y_axes))
    package = read_package("m", 1, folder)
    as_exported = (x_axes, y_axes, s_axes, fixed) == (WORDS, WORDS, WORDS[1:], set())
    assert (package.layout is None) == as_exported
    engine = Engine(package.graph, package.spec, package.layout)
    ragged = package.spec.lengths is not None
    lengths = np.array([random.randint(1, steps) if ragged else steps for _ in range(rows)], np.int32)
    lengths[0] = steps
    x = np.array([random.randrange(100) for _ in range(steps * rows * F)], np.float32).reshape(steps, rows, F)
    s = np.array([random.randrange(100) for _ in range(rows * F)], np.float32).reshape(rows, F)

    (y,), (after,) = engine.run([x], lengths, [s])

    assert y.shape == x.shape
    for row, length in enumerate(lengths):
        expected = s[row] + np.cumsum(x[:length, row], axis=0)
        np.testing.assert_array_equal(y[:length, row], expected)
        np.testing.assert_array_equal(after[row], expected[-1])
