"""Fixtures: each cell in turn, and a seeded generator."""

import numpy as np
import pytest
from tests.models.oracle import CELLS, CellFields


@pytest.fixture(params=list(CELLS))
def cell(request: pytest.FixtureRequest) -> CellFields:
    """Each cell in turn, as fields of a NetworkSpec."""
    return CELLS[request.param]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240517)
