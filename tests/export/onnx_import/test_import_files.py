"""Imports graphs whose weights lie beside them, and states that begin as the user says."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.export.foreign_graphs import batch_first_lstm, make, run_package, sequence, tensor

from statewise.export import SourceError, import_onnx, read_package
from statewise.models.base import Array


def save_apart(folder: Path) -> Path:
    """Writes m.onnx with m.onnx.data beside it, as PyTorch does."""
    model = batch_first_lstm().model
    file = folder / "m.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    assert (folder / "m.onnx.data").stat().st_size > 1000
    return file


def test_weights_beside_the_file_are_imported_with_it(tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    file = save_apart(tmp_path / "apart")
    whole = batch_first_lstm().save(tmp_path / "m.onnx")

    apart = import_onnx(file, tmp_path / "repository", name="apart")
    together = import_onnx(whole, tmp_path / "repository", name="together")

    x = sequence()
    np.testing.assert_array_equal(run_package(apart, x)[0], run_package(together, x)[0])
    assert sorted(entry.name for entry in apart.iterdir()) == ["model.onnx", "model.toml"]
    assert "# weights are taken from m.onnx.data\n" in (apart / "model.toml").read_text()


def test_weights_that_are_absent_or_cut_are_one_line(tmp_path: Path) -> None:
    file = save_apart(tmp_path)
    data = tmp_path / "m.onnx.data"

    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"bytes from 0 in m\.onnx\.data; it has 100"):
        import_onnx(file, tmp_path / "repository")
    data.unlink()
    with pytest.raises(SourceError, match=r"expected 'm\.onnx\.data' beside the file.*it is absent"):
        import_onnx(file, tmp_path / "repository")


def test_weights_behind_a_link_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    file = save_apart(tmp_path / "apart")
    data = tmp_path / "apart" / "m.onnx.data"
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SourceError, match="expected weights inside the file or in its folder"):
        import_onnx(file, tmp_path / "repository")


@pytest.mark.parametrize("way", ["array", "file", "with a batch axis"])
def test_a_state_begins_as_given(tmp_path: Path, way: str) -> None:
    """y = x + s and s' = y, so the first y shows how s began."""
    nodes = [helper.make_node("Add", ["x", "s"], ["s_out"]), helper.make_node("Identity", ["s_out"], ["y"])]
    matrix = ["B", 2, 3]
    foreign = make(
        nodes, [tensor("x", matrix), tensor("s", matrix)], [tensor("y", matrix), tensor("s_out", matrix)]
    )
    start = np.array([[0, 1, 2], [-1e30, 4, 5]], np.float32)
    initial: Array | Path = start[None] if way == "with a batch axis" else start
    if way == "file":
        np.save(tmp_path / "start.npy", start)
        initial = tmp_path / "start.npy"
    file = foreign.save(tmp_path / "m.onnx")
    package = import_onnx(file, tmp_path / "repository", initial={"s": initial})
    (pair,) = read_package(package).spec.state

    y, _ = run_package(package, np.zeros((1, 2, 2, 3), np.float32), [np.stack([pair.initial_state()] * 2)])

    np.testing.assert_array_equal(y[0], np.stack([start] * 2))
    assert "begins as the given array" in (package / "model.toml").read_text()


def test_an_initial_state_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    file = batch_first_lstm().save(tmp_path / "m.onnx")

    for initial, complaint in (
        ({"h0": np.zeros(5)}, r"initial 'h0': expected shape \[1, 8\]; got \[5\]"),
        ({"h9": 1.0}, "initial 'h9': expected one of 'h0', 'c0'"),
        ({"h0": tmp_path / "no.npy"}, r"initial 'h0': expected a \.npy file"),
    ):
        with pytest.raises(SourceError, match=complaint):
            import_onnx(file, tmp_path / "repository", initial=initial)


def test_a_constant_with_a_batch_axis_follows_the_other_inputs(tmp_path: Path) -> None:
    """y = x + s where mask, and x [batch, 3] has as many rows as mask [batch, 1]."""
    nodes = [
        helper.make_node("Mul", ["x", "mask"], ["masked"]),
        helper.make_node("Add", ["masked", "s"], ["s_out"]),
        helper.make_node("Identity", ["s_out"], ["y"]),
    ]
    row: list[int | str | None] = ["batch", 3]
    foreign = make(
        nodes,
        [tensor("x", row), tensor("mask", ["batch", 1]), tensor("s", row)],
        [tensor("y", row), tensor("s_out", row)],
    )
    file = foreign.save(tmp_path / "m.onnx")
    package = import_onnx(file, tmp_path / "repository", constants={"mask": 2})
    x = sequence(rows=3)

    y, _ = run_package(package, x)

    np.testing.assert_allclose(y, np.cumsum(2 * x, axis=0), atol=1e-5)
    assert [entry.name for entry in read_package(package).spec.inputs] == ["x"]
    with pytest.raises(SourceError, match=r"sizes of other inputs, or fixed ones \(--size batch=N\)"):
        import_onnx(file, tmp_path / "repository", constants={"x": 1, "mask": 1, "s": 1})
