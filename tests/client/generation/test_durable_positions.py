"""Generates with sessions that a store keeps: the end of a generation tells how far they are stored."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.client.clients import Clients
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.client import Unavailable
from statewise.service.testing import server_in_thread
from statewise.v1 import sequence_pb2, sequence_pb2_grpc
from statewise.wire import pack_uint32, pack_uint64, unpack_uint32, unpack_uint64


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server, which outlives the servers of a test that asks for it first."""
    with redis_server() as server:
        yield server


def test_with_replies_that_wait_all_of_a_generation_is_stored(
    clients: Clients, generative: Path, tmp_path: Path
) -> None:
    client = clients.serve(generative, store=f"sqlite:{tmp_path / 'sessions.db'}", durability="reply")
    with client.session("chatter") as session:
        for position in (6, 11):  # the begin token, and five values each
            assert len(list(session.generate(steps=5, seed=7, text=False))) == 5
            assert (session.position, session.durable_position) == (position, position)


def test_with_replies_at_once_a_generation_tells_what_came_before(
    clients: Clients, generative: Path, tmp_path: Path
) -> None:
    client = clients.serve(generative, store=f"sqlite:{tmp_path / 'sessions.db'}")
    with client.session("chatter") as session:
        while not session.durable_position:
            list(session.generate(steps=1, seed=7, text=False))
        assert session.durable_position < session.position


def test_a_generation_whose_end_was_not_stored_counts_once(
    redis: RedisServer, clients: Clients, generative: Path
) -> None:
    address = clients.start(generative, store=redis.url, durability="reply")
    client = clients.connect(address)
    whole = list(client.generate("chatter", steps=10, seed=7, text=False))
    session = clients.connect(address, reconnect_s=0.2).session("chatter", id="a")
    redis.kill()
    with pytest.raises(Unavailable):
        list(session.generate(steps=5, seed=7, text=False))
    redis.start()
    while True:
        try:
            rest = list(session.generate(steps=5, seed=7, text=False))
            break
        except Unavailable:
            assert session.position in (0, 6)  # not known yet, or applied once
    assert session.position == 11
    assert rest == whole[5:]


@pytest.mark.parametrize("stored", [True, False])
def test_the_last_reply_says_where_each_row_stands(generative: Path, tmp_path: Path, *, stored: bool) -> None:
    chosen: dict[str, Any] = (
        {"store": f"sqlite:{tmp_path / 'sessions.db'}", "durability": "reply"} if stored else {}
    )
    with (
        server_in_thread(generative, **chosen) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        request = sequence_pb2.OpenSessionsRequest(model="chatter", session_ids=["a", "b", "c"])
        handles = [session.handle for session in stub.OpenSessions(request).sessions]
        *_, last = stub.GenerateSessions(
            sequence_pb2.GenerateSessionsRequest(
                handles=pack_uint64(handles), positions=pack_uint64([0, 9, 0]), steps=pack_uint32([3, 3, 5])
            )
        )
        assert last.done
        assert not last.outputs
        rows = [0, 2] if stored else []  # row 1 stands elsewhere
        assert unpack_uint32(last.rows).tolist() == rows
        assert unpack_uint32(last.lengths).tolist() == [0] * len(rows)
        ends = [4, 6] if stored else []
        assert unpack_uint64(last.positions).tolist() == ends
        assert unpack_uint64(last.durable_positions).tolist() == ends
