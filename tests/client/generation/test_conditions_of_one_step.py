"""Conditions a model that does not generate, whose encoder reads one sample without a time axis."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from statewise.client import Client, InvalidInput
from statewise.service.testing import server_in_thread

RANDOM = np.random.default_rng(0)
W, R, E = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((2, 4), (4, 4), (3, 4)))
DECLARATION = """
[[inputs]]
name = "x"
dtype = "float32"
axes = ["batch", 2]

[[outputs]]
name = "y"
dtype = "float32"
axes = ["batch", 4]

[[state]]
input = "h"
output = "h_out"
axes = ["batch", 4]

[encode]
state = ["s"]

[[encode.inputs]]
name = "features"
dtype = "float32"
shape = [3]
per_step = false
"""

Sizes = Mapping[str, int]


def save(path: Path, nodes: Sequence[NodeProto], inputs: Sizes, outputs: Sizes, **weights: Any) -> None:
    """Writes a graph of tensors [batch, size]."""
    given, made = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in sizes.items()]
        for sizes in (inputs, outputs)
    )
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, path.stem, given, made, initializer=constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of `caption`: h' = tanh(x W + h R), where h begins as features E."""
    root = tmp_path_factory.mktemp("caption")
    folder = root / "caption" / "1"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(DECLARATION)
    save(
        folder / "model.onnx",
        [
            helper.make_node("MatMul", ["x", "W"], ["a"]),
            helper.make_node("MatMul", ["h", "R"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["c"]),
            helper.make_node("Tanh", ["c"], ["h_out"]),
            helper.make_node("Identity", ["h_out"], ["y"]),
        ],
        {"x": 2, "h": 4},
        {"y": 4, "h_out": 4},
        W=W,
        R=R,
    )
    encode = [helper.make_node("MatMul", ["features", "E"], ["s"])]
    save(folder / "encode.onnx", encode, {"features": 3}, {"s": 4}, E=E)
    with server_in_thread(root) as address:
        yield address


X = np.array([0.1, 0.2], np.float32)
FEATURES = np.array([[1, 2, 3], [3, -1, 0]], np.float32)
EXPECTED = np.tanh(X @ W + FEATURES @ E @ R)


@pytest.mark.parametrize(
    "form", [np.array, list, np.ndarray.tolist, lambda one: [one], lambda one: one[None]]
)
def test_one_sample_is_a_condition_in_any_form(client: Client, form: Any) -> None:
    with client.session("caption", condition=form(FEATURES[0])) as session:
        np.testing.assert_allclose(session.step(X), EXPECTED[0], atol=1e-6)


def test_groups_take_one_for_all_or_one_for_each(client: Client) -> None:
    both = np.stack([X, X])
    with client.sessions("caption", count=2, condition=FEATURES[0]) as group:
        np.testing.assert_allclose(group.step(both), EXPECTED[[0, 0]], atol=1e-6)
    for conditions in (FEATURES, list(FEATURES), FEATURES.tolist()):
        with client.sessions("caption", count=2, condition=conditions) as group:
            np.testing.assert_allclose(group.step(both), EXPECTED, atol=1e-6)


def test_what_does_not_fit_is_named(client: Client) -> None:
    told = (
        r"^condition: input 'features'.*: expected float32 \[3\] \(one sample\).*; got float32 of shape \[2\]"
    )
    with pytest.raises(InvalidInput, match=told):
        client.session("caption", condition=[1, 2]).step(X)
