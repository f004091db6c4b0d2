"""Fixtures of the tests of `statewise score`: a server, and sequences with their outputs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.score.results import LENGTHS, Array, Expected

from statewise.client import Client
from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import server_in_thread


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with untrained models for [T, 3]: `each` has an output a step, `last` an output a sequence."""
    repository = tmp_path_factory.mktemp("scored")
    shapes: dict[str, Any] = {"each": "many_to_many", "last": "many_to_one"}
    for name, shape in shapes.items():
        spec = NetworkSpec(input_size=3, output_size=2, cell="lstm", hidden_size=4, call_shape=shape)
        network = Network.initialise(spec, rng=np.random.default_rng(1))
        export_checkpoint(Checkpoint(network=network, recipe=name), repository)
    with server_in_thread(repository) as address:
        yield address


@pytest.fixture(scope="session")
def rows() -> list[Array]:
    """9,000 sequences; row 7 holds a NaN."""
    source = np.random.default_rng(2)
    rows = [source.standard_normal((length, 3)).astype(np.float32) for length in LENGTHS]
    rows[7] = rows[7].copy()
    rows[7][0, 0] = np.nan
    return rows


@pytest.fixture(scope="session")
def source(rows: list[Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows in a .npz."""
    path = tmp_path_factory.mktemp("source") / "rows.npz"
    np.savez(path, inputs=np.concatenate(rows), lengths=LENGTHS, ids=[f"r{i}" for i in range(len(rows))])
    return path


@pytest.fixture
def few(rows: list[Array], tmp_path: Path) -> Path:
    """The first twelve rows in a .jsonl."""
    path = tmp_path / "few.jsonl"
    lines = [{"id": f"r{index}", "inputs": row.tolist()} for index, row in enumerate(rows[:12])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def expected(target: str, rows: list[Array]) -> Expected:
    """Outputs of the first twelve rows."""
    with Client(target) as client:
        good = [row for index, row in enumerate(rows[:12]) if index != 7]
        outputs = {model: list(client.predict(model, good)) for model in ("each", "last")}
    return {model: [*values[:7], None, *values[7:]] for model, values in outputs.items()}
