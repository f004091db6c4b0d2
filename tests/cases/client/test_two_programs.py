"""Uses one id in two programs with a restart in between: the first is told, or its own state answers."""

from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import Server
from tests.helpers.models.small import SmallModels

from statewise.client import Client, SessionMoved


@pytest.mark.parametrize("steps", [5, 2])
def test_a_program_is_never_answered_from_the_state_of_another(
    repository: Path, small_models: SmallModels, random: np.random.Generator, steps: int
) -> None:
    """Where both have taken the same number of steps, positions alone do not tell them apart."""
    x, z = random.standard_normal((2, 6, 3)).astype(np.float32)
    with Server(repository) as server, Client(server.target) as one, Client(server.target) as other:
        mine = one.session("steps", id="shared")
        for sample in x[:5]:
            mine.step(sample)
        server.kill()
        server.start()
        theirs = other.session("steps", id="shared")
        for sample in z[:steps]:
            theirs.step(sample)
        with pytest.raises(SessionMoved):
            mine.step(x[5])
        expected = small_models.find("steps").run(z)[0]
        np.testing.assert_array_equal(theirs.step(z[steps]), expected[steps])
