"""Makes random inputs of the small models, and waits until the server has consumed them."""

from collections.abc import Mapping

import numpy as np
from tests.helpers.arrays import Floats

from statewise.client import Client


def sequences(*lengths: int, seed: int = 1) -> list[Floats]:
    """Sequences [T, 3] of these lengths."""
    random = np.random.default_rng(seed)
    return [random.standard_normal((length, 3)).astype(np.float32) for length in lengths]


def wait_for_positions(client: Client, expected: Mapping[str, int]) -> None:
    """Waits until the server shows these sessions, by id, at these positions."""
    while expected.items() - {info.id: info.position for info in client.list_sessions()}.items():
        pass
