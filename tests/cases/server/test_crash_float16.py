"""Imports and serves a file that crashes onnxruntime at full optimisation: neither command dies of it."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.cases.foreign import publish, served
from tests.cli.command import Server, statewise
from tests.export.foreign_graphs import ForeignGraph, constant, make, tensor
from tests.helpers.models.small import SmallModels

from statewise.client import Client

pytestmark = pytest.mark.long

HALF = TensorProto.FLOAT16
BY_HAND = """
[[inputs]]
name = "x"
axes = ["batch", "time", 5]
[[outputs]]
name = "y"
axes = ["time", "batch", 3]
"""


def projection() -> ForeignGraph:
    """x [B, T, 5] -> y [T, B, 3]: the fusion of Transpose and MatMul reads outside its weights."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
    ]
    return make(
        nodes,
        [tensor("x", ["b", "t", 5], HALF)],
        [tensor("y", ["t", "b", 3], HALF)],
        [constant("w", values=np.full((5, 3), 0.5, np.float16))],
    )


def test_import_ends_as_a_command_does(tmp_path: Path) -> None:
    file = projection().save(tmp_path / "half.onnx")
    done = statewise("import", file, "--repository", tmp_path / "models", "--name", "half")
    assert "no state found" in done.complaint
    done = statewise("import", file, "--repository", tmp_path / "models", "--name", "half", "--stateless")
    assert done.code == 0, done.err


def test_a_running_server_serves_it_and_its_sessions_go_on(
    repository: Path, small_models: SmallModels, tmp_path: Path, random: np.random.Generator
) -> None:
    (tmp_path / "steps").symlink_to(repository / "steps")
    x = random.standard_normal((2, 3)).astype(np.float32)
    with (
        Server(tmp_path, env={"STATEWISE_REPOSITORY_POLL_S": "0.5"}) as server,
        Client(server.target, reconnect_s=1) as client,
        client.session("steps") as session,
    ):
        outputs = [session.step(x[0])]
        publish(tmp_path, "half", projection(), BY_HAND)
        while "half" not in (models := served(client)) or models["half"].status == "loading":
            assert server.lives, server.log
        outputs.append(session.step(x[1]))
        np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(x)[0])
        assert models["half"].status == "ready", models["half"].failure
        ones = client.predict("half", np.ones((4, 5), np.float16))
        np.testing.assert_allclose(ones, np.full((4, 3), 2.5), atol=2e-3)
