"""From others' weights to a verified package."""

import json

import numpy as np


def write_safetensors(path, arrays):
    header, data = {}, b""
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


def test_pytorch_weights_become_a_package_that_verifies(statewise, tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (12, 2), "weight_hh_l0": (12, 4), "bias_ih_l0": 12, "bias_hh_l0": 12}
    write_safetensors(
        tmp_path / "gru.safetensors", {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    )

    done = statewise("import", tmp_path / "gru.safetensors", "--repository", tmp_path / "models", "--json")
    package = tmp_path / "models" / "gru" / "1"

    assert done.json == {"package": str(package), "name": "gru", "version": 1}
    assert statewise("verify", package).code == 0


def test_weights_that_cannot_be_read_are_one_line(statewise, tmp_path):
    (tmp_path / "noise.safetensors").write_bytes(b"noise")

    done = statewise("import", tmp_path / "noise.safetensors", "--repository", tmp_path)

    assert "expected a .safetensors header" in done.complaint
