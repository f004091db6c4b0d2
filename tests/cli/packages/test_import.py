"""Imports PyTorch weights and foreign graphs, and verifies the packages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tests.cli.command import statewise


def write_safetensors(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        raw = array.astype(np.float32).tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_pytorch_weights_become_a_package_that_verifies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes: dict[str, Any] = {
        "weight_ih_l0": (12, 2),
        "weight_hh_l0": (12, 4),
        "bias_ih_l0": 12,
        "bias_hh_l0": 12,
    }
    write_safetensors(
        tmp_path / "gru.safetensors", {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    )

    done = statewise("import", tmp_path / "gru.safetensors", "--repository", tmp_path / "models", "--json")
    package = tmp_path / "models" / "gru" / "1"

    assert done.json == {"package": str(package), "name": "gru", "version": 1}
    assert statewise("verify", package).code == 0


def test_weights_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.safetensors").write_bytes(b"noise")

    done = statewise("import", tmp_path / "noise.safetensors", "--repository", tmp_path)

    assert "expected a .safetensors header" in done.complaint


def write_cell(path: Path) -> Path:
    """Writes a graph of one step, h' = h + x. Only names hint at batch, time and state."""
    vector: list[Any] = ["N", 2]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["x", "h_in"], ["h_out"]),
            onnx.helper.make_node("Mul", ["h_out", "gain"], ["y"]),
        ],
        "cell",
        [onnx.helper.make_tensor_value_info(name, 1, vector) for name in ("x", "h_in")]
        + [onnx.helper.make_tensor_value_info("gain", 1, [1])],
        [onnx.helper.make_tensor_value_info(name, 1, vector) for name in ("y", "h_out")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_foreign_graph_is_imported_with_what_was_found(tmp_path: Path) -> None:
    file = write_cell(tmp_path / "cell.onnx")

    done = statewise("import", file, "--repository", tmp_path / "models", "--constant", "gain=2")

    assert done.code == 0
    assert done.out == f"{tmp_path}/models/cell/1\n"
    assert "state h_in -> h_out: alike in name; begins as zeros\n" in done.err
    assert statewise("verify", tmp_path / "models" / "cell" / "1").code == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--constant", "gain"],
        ["--constant", "gain=much"],
        ["--state", "=h"],
        ["--description", "d.toml"],
        ["--size", "N=many"],
        ["--axes", "x=rows,2"],
        ["--axes", "x"],
        ["--initial", "h_in"],
    ],
    ids=" ".join,
)
def test_wrong_options_are_wrong_usage(tmp_path: Path, options: list[str]) -> None:
    file = write_cell(tmp_path / "cell.onnx")

    assert statewise("import", file, "--repository", tmp_path, *options).code == 2


def test_what_the_user_says_decides(tmp_path: Path) -> None:
    file = write_cell(tmp_path / "cell.onnx")
    np.save(tmp_path / "start.npy", np.array([1, 2], np.float32))

    done = statewise(
        *("import", file, "--repository", tmp_path / "models", "--constant", "gain=2"),
        *("--input", "x", "--output", "y", "--axes", "x=batch,2", "--axes", "h_in=batch,2"),
        *("--initial", f"h_in={tmp_path / 'start.npy'}"),
    )

    assert done.code == 0
    assert "state h_in -> h_out: alike in name; begins as the given array\n" in done.err
    assert "initial = [1.0, 2.0]" in (tmp_path / "models/cell/1/model.toml").read_text()


def test_a_model_can_be_imported_for_predict_alone(tmp_path: Path) -> None:
    file = write_cell(tmp_path / "cell.onnx")

    done = statewise(
        *("import", file, "--repository", tmp_path / "models", "--constant", "gain=2", "--stateless")
    )

    assert done.code == 0
    assert "the model is Predict-only, without sessions" in done.err


def test_options_of_graphs_are_wrong_usage_for_weights(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")

    done = statewise("import", tmp_path / "w.safetensors", "--repository", tmp_path, "--size", "N=2")

    assert done.code == 2
    assert "--size" in done.err


def test_what_is_taken_of_weights_is_printed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"weight_ih_l0": (4, 2), "weight_hh_l0": (4, 4)}
    arrays = {f"net.{name}": rng.standard_normal(shape) for name, shape in shapes.items()}
    write_safetensors(tmp_path / "rnn.safetensors", arrays)

    done = statewise("import", tmp_path / "rnn.safetensors", "--repository", tmp_path / "models")

    assert done.code == 0
    assert "recurrent module net: nn.RNN, 1 layer of 4 units\n" in done.err
    assert "nonlinearity: tanh, the default of nn.RNN" in done.err
