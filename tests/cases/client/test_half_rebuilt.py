"""Cuts the connection while a session is rebuilt on a new server: what follows has its whole state."""

from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import Server
from tests.client.relay import Relay
from tests.helpers.models.small import SmallModels

from statewise.client import Client

STEPS = 20_000


@pytest.mark.parametrize("what", ["fork", "snapshot", "step"])
def test_the_session_and_its_copies_have_all_steps(
    repository: Path, small_models: SmallModels, random: np.random.Generator, what: str
) -> None:
    x = random.standard_normal((STEPS + 1, 3)).astype(np.float32)
    with Server(repository) as server:
        relay = Relay(server.target)
        with Client(relay.address) as client, client.session("steps") as session:
            for begin in range(0, STEPS, STEPS // 4):
                session.step(x[begin : begin + STEPS // 4])
            server.kill()
            server.start()
            cuts = relay.cut_after(100_000)
            if what == "fork":
                other = session.fork()
            elif what == "snapshot":
                other = client.restore(session.snapshot())
            else:
                other = session
            found = other.step(x[STEPS])
            assert cuts.is_set()
            assert other.position == STEPS + 1
        relay.close()
    np.testing.assert_array_equal(found, small_models.find("steps").run(x)[0][STEPS])
