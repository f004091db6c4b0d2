"""Profiles graphs that have no result for inputs below 0: NaN agrees with NaN, and proves nothing."""

from pathlib import Path

import onnx

from statewise.service.engine import EngineProfile, load_engine, profile_engine
from statewise.service.packages import read_package
from statewise.wire import Exactness

ROOTS = """
<ir_version: 8, opset_import: ["" : 17]>
roots (float[batch, time, 40] x, float[batch, 2] s) => (float[batch, time, 1] y, float[batch, 2] s_out) {
    roots = Sqrt(x)
    root = ReduceMean<axes = [2]>(roots)
    MEAN
    s_out = Identity(s)
}
"""
TOML = """
[[inputs]]
name = "x"
axes = ["batch", "time", 40]
[[outputs]]
name = "y"
axes = ["batch", "time", 1]
[[state]]
input = "s"
output = "s_out"
axes = ["batch", 2]
"""


def profile(folder: Path, mean: str) -> EngineProfile:
    folder.mkdir()
    onnx.save(onnx.parser.parse_model(ROOTS.replace("MEAN", mean)), folder / "model.onnx")
    (folder / "model.toml").write_text(TOML)
    package = read_package("roots", 1, folder)
    return profile_engine(load_engine(package.graph, package.spec, layout=package.layout))[1]


def test_a_graph_with_nan_below_0_is_compared_where_it_has_numbers(tmp_path: Path) -> None:
    found = profile(tmp_path / "plain", "y = Identity(root)")
    assert (found.exactness, found.stepwise) == (Exactness.EXACT, True)


def test_nan_does_not_hide_that_steps_differ_from_the_whole(tmp_path: Path) -> None:
    found = profile(tmp_path / "mean", "mean = ReduceMean<axes = [1]>(root)\n y = Sub(root, mean)")
    assert (found.exactness, found.stepwise) == (Exactness.UNSAFE, False)
