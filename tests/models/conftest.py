"""The fixtures of these tests: each cell in turn, and a seeded generator."""

import numpy as np
import pytest
from tests.models.oracle import CELLS


@pytest.fixture(params=CELLS.values(), ids=CELLS.keys())
def cell(request: pytest.FixtureRequest) -> dict[str, object]:
    """Fields of a NetworkSpec that choose a cell."""
    return dict(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240517)
