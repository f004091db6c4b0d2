"""Gives a test a place of each kind of store: a file, and a Redis server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.stores.places import PLACES, Open


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens writers on the same data, of one kind of store."""
    with PLACES[request.param](tmp_path) as opening:
        yield opening
