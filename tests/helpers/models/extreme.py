"""Writes graphs whose initial states are as extreme as those of foreign cells: -1e30, minus infinity."""

from pathlib import Path

import onnx
from tests.helpers.models.foreign.model import FLOAT, F, graph, node, tensor

_TOML = """
[[inputs]]
name = "x"
axes = ["batch", {F}]
[[outputs]]
name = "y"
axes = ["batch", {F}]
[[state]]
input = "peak"
output = "peak_out"
axes = ["batch", {F}]
initial = -inf
[[state]]
input = "log_sum"
output = "log_sum_out"
axes = ["batch", {F}]
initial = -1e30
"""


def publish_extreme(root: Path) -> None:
    """Writes `extreme`: a running maximum that begins at -inf, and a log-sum-exp that begins at -1e30."""
    nodes = [
        node("Max", ["x", "peak"], ["peak_out"]),
        node("Max", ["x", "log_sum"], ["top"]),
        node("Sub", ["x", "top"], ["a"]),
        node("Sub", ["log_sum", "top"], ["b"]),
        node("Exp", ["a"], ["ea"]),
        node("Exp", ["b"], ["eb"]),
        node("Add", ["ea", "eb"], ["sum"]),
        node("Log", ["sum"], ["logged"]),
        node("Add", ["top", "logged"], ["log_sum_out"]),
        node("Sub", ["log_sum_out", "peak_out"], ["y"]),
    ]
    row: list[int | str] = ["B", F]
    made = graph(
        nodes,
        [tensor("x", row, FLOAT), tensor("peak", row, FLOAT), tensor("log_sum", row, FLOAT)],
        [tensor("y", row, FLOAT), tensor("peak_out", row, FLOAT), tensor("log_sum_out", row, FLOAT)],
        [],
    )
    folder = root / "extreme" / "1"
    folder.mkdir(parents=True)
    onnx.save(made, folder / "model.onnx")
    (folder / "model.toml").write_text(_TOML.format(F=F))
