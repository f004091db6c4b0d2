"""Stores weights in fewer bytes: the package's notes hold the measured loss of accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.checkpoints import TEXT_GENERATOR, make_checkpoint

from statewise.export import Exactness, UnsupportedNetwork, export_checkpoint, read_package, verify_package
from statewise.models import Checkpoint, Network


@pytest.mark.parametrize(
    "fields",
    [
        {"cell": "lstm"},
        {"cell": "gru", "bidirectional": True},
        TEXT_GENERATOR,
    ],
    ids=str,
)
def test_float16_halves_the_file_and_stays_exact(tmp_path: Path, fields: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(hidden_size=64, **fields)
    whole = read_package(export_checkpoint(checkpoint, tmp_path))
    package = export_checkpoint(checkpoint, tmp_path, weights="float16")

    half = read_package(package)
    report = verify_package(package)

    assert half.size_bytes < 0.6 * whole.size_bytes
    assert half.spec.notes["weights"] == "float16"
    assert 1e-6 < float(half.spec.notes["weights_error"]) < 2e-2
    assert report.passed, report.checks
    assert report.exactness is Exactness.EXACT


def test_the_noted_error_is_the_error_against_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(hidden_size=64)
    package = export_checkpoint(checkpoint, tmp_path, weights="float16")

    report = verify_package(package, checkpoint=checkpoint)
    measured = next(check.measured for check in report.checks if check.name == "NumPy = onnxruntime")

    assert f"{measured:.2g}" == read_package(package).spec.notes["weights_error"]
    assert not report.passed


def test_int8_quarters_the_file_and_couples_rows(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(hidden_size=64)
    whole = read_package(export_checkpoint(checkpoint, tmp_path))
    package = export_checkpoint(checkpoint, tmp_path, weights="int8")

    stored = read_package(package)
    report = verify_package(package)

    assert stored.size_bytes < 0.4 * whole.size_bytes
    assert 1e-5 < float(stored.spec.notes["weights_error"]) < 0.5
    assert report.exactness is Exactness.UNSAFE
    assert not report.passed


def test_int8_has_no_generator_graph(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(**TEXT_GENERATOR), tmp_path, weights="int8")

    generate = read_package(package).spec.generate
    assert generate is not None
    assert not generate.graph
    assert [file.name for file in package.iterdir()] == ["model.onnx"]


def test_a_weight_too_large_for_float16_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    values = {name: np.array(array) for name, array in checkpoint.network.parameters.items()}
    values["head.V"][0, 0] = 1e5
    network = Network(checkpoint.network.spec, values)

    with pytest.raises(UnsupportedNetwork, match=r"head\.V: expected weights up to 65504 .*; got 100000"):
        export_checkpoint(Checkpoint(network=network, recipe="tiny"), tmp_path / "r", weights="float16")
    assert not (tmp_path / "r").exists()
