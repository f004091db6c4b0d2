"""Exposes the state of recurrent operators that have no state inputs and outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.foreign_graphs import hidden_lstm, pieces, run_package, sequence

from statewise.export import Exactness, SourceError, import_onnx, read_package, verify_package


def test_hidden_state_can_be_exposed(tmp_path: Path) -> None:
    foreign = hidden_lstm()
    file = foreign.save(tmp_path / "m.onnx")
    package = import_onnx(file, tmp_path / "repository", expose_state=True)
    x = sequence()

    y, _ = run_package(package, x)
    parts, _ = pieces(package, x)

    np.testing.assert_array_equal(y, foreign.run({"x": x})["y"])
    np.testing.assert_array_equal(np.concatenate(parts), y)
    assert verify_package(package).exactness is Exactness.EXACT
    operators = [node.op_type for node in read_package(package).files["model.onnx"].model.graph.node]
    assert "ConstantOfShape" not in operators


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"zeros": False}, "lstm: expected a start from zeros"),
        ({"direction": "reverse"}, "lstm: expected an operator that reads forwards"),
    ],
)
def test_operators_that_cannot_be_exposed_are_an_error(
    tmp_path: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SourceError, match=complaint):
        import_onnx(hidden_lstm(**options).save(tmp_path / "m.onnx"), tmp_path / "r", expose_state=True)
