"""Gives a test a place of each kind of store, and one sequence with its outputs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.models.small import SmallModels
from tests.service.stores.places import PLACES, Open


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens writers on the same data, of one kind of store."""
    with PLACES[request.param](tmp_path) as opening:
        yield opening


@pytest.fixture
def x(random: np.random.Generator) -> np.ndarray:
    """One sequence, [time, features]."""
    return random.standard_normal((12, 3)).astype(np.float32)


@pytest.fixture
def expected(small_models: SmallModels, x: np.ndarray) -> np.ndarray:
    """Its outputs, [time, outputs]."""
    outputs: np.ndarray = small_models.find("steps").run(x)[0]
    return outputs
