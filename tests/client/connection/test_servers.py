"""Keeps clients on their servers: several addresses, servers that leave, silent connections."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.relay import Relay
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import InvalidInput
from statewise.service.testing import server_in_thread


class TestSeveralServers:
    @pytest.fixture
    def pair(self, repository: Path) -> Iterator[dict[str, ExitStack]]:
        """Two servers that know nothing of each other, by address; closing one's stack stops it."""
        with ExitStack() as both:
            servers = {}
            for _ in range(2):
                stack = both.enter_context(ExitStack())
                servers[stack.enter_context(server_in_thread(repository))] = stack
            yield servers

    def test_calls_go_to_all_of_them(self, clients: Clients, pair: Mapping[str, ExitStack]) -> None:
        client = clients.connect("ipv4:" + ",".join(pair))
        began = {clients.connect(address).server().started_at for address in pair}
        assert len(began) == 2
        seen: set[datetime] = set()
        while seen != began:  # the channel may not have reached both at first
            seen.add(client.server().started_at)

    def test_a_session_moves_with_its_state_when_its_server_goes(
        self, clients: Clients, pair: Mapping[str, ExitStack], small_models: SmallModels, x: Floats
    ) -> None:
        client = clients.connect("ipv4:" + ",".join(pair))
        session, group = client.session("steps"), client.sessions("steps", count=3)
        outputs = [session.step(x[:5])]
        grouped = [group.step(np.stack([x[:5]] * 3))]
        (holder,) = (address for address in pair if clients.connect(address).list_sessions())
        pair[holder].close()
        outputs.append(session.step(x[5:]))
        grouped.append(group.step(np.stack([x[5:]] * 3)))
        expected = small_models.find("steps").run(x)[0]
        np.testing.assert_array_equal(np.concatenate(outputs), expected)
        for row in np.concatenate(grouped, axis=1):
            np.testing.assert_array_equal(row, expected)

    def test_predictions_go_on_with_those_that_are_left(
        self, clients: Clients, pair: Mapping[str, ExitStack], x: Floats
    ) -> None:
        client = clients.connect("ipv4:" + ",".join(pair))
        expected = client.predict("steps", x)
        next(iter(pair.values())).close()
        for _ in range(4):
            np.testing.assert_array_equal(client.predict("steps", x), expected)

    def test_a_name_is_resolved(self, clients: Clients, address: str, x: Floats) -> None:
        port = address.rpartition(":")[2]
        assert clients.connect(f"dns:///localhost:{port}").predict("steps", x).shape == (20, 2)


class TestSilence:
    def test_a_peer_that_vanished_is_noticed(
        self, clients: Clients, relay: Relay, small_models: SmallModels, x: Floats
    ) -> None:
        session = clients.connect(relay.address, keepalive_s=0.2).session("steps")
        outputs = [session.step(x[0])]
        relay.hold_replies()
        before = relay.accepted
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(session.step, x[1])
            # Only its probes make a client leave a connection that is merely silent.
            relay.wait_for_connection(before + 1)
            relay.cut()
            outputs.append(waiting.result())
        np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(x[:2])[0])

    def test_a_server_may_take_its_time_to_shake_hands(self, clients: Clients, relay: Relay) -> None:
        relay.hold_replies()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(clients.connect(relay.address).models)
            assert relay.wait_for_connection(1)
            again = relay.wait_for_connection(2, timeout_s=0.3)
            relay.release_replies()
            assert waiting.result()
        assert not again

    @pytest.mark.parametrize("keepalive_s", [0, -1, float("nan"), float("inf")])
    def test_a_keepalive_that_is_none(self, clients: Clients, keepalive_s: float) -> None:
        with pytest.raises(InvalidInput, match="keepalive_s: expected more than 0 s"):
            clients.connect("127.0.0.1:1", keepalive_s=keepalive_s)
