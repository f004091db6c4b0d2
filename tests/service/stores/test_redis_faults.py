"""What a store in Redis does while its server is away, cut off, full, restarted or someone else's."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.service.stores.blocks import STATE_BYTES, assert_at, checkpoint, group_of, moving, opening
from tests.service.stores.cutting_proxy import CuttingProxy, cutting_proxy
from tests.service.stores.redis_server import RedisServer, redis_server

from statewise.service.stores import (
    Block,
    Name,
    StoreDamaged,
    StoreLost,
    StoreUnavailable,
    StoreVersionError,
    Written,
)
from statewise.service.stores.redis import RedisStore

MANY = list(range(1, 2_001))
"""More sessions than one portion has."""
SHORT_S = 0.5
"""Longest wait for a server that a test has stopped."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(server.socket.parent, server.socket) as running:
        yield running


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    opened = RedisStore.open(server.options())
    yield opened
    opened.close()


def write_until_done(store: RedisStore, block: Block) -> Written:
    """Repeats a write for as long as the server is away."""
    while True:
        try:
            return store.write(block)
        except StoreUnavailable:
            continue


def test_a_server_that_restarts_has_what_it_acknowledged(server: RedisServer, store: RedisStore) -> None:
    store.write(opening(MANY))
    store.write(moving(MANY[::2], 5))
    [claimed] = store.claim([7])
    usage = store.usage()
    server.restart()
    assert store.usage() == usage
    assert store.write(moving([3], 6)).moved == []
    for birth, session in zip(MANY[4:], store.read(MANY[4:]), strict=True):
        assert_at(session, birth, 5 if birth % 2 else 1)
    [read] = store.read([7])
    assert claimed is not None
    assert read is not None
    assert read.row == claimed.row


@pytest.mark.parametrize("passed", [100, 20_000, 150_000, 200_000])
def test_a_server_killed_in_the_middle_of_a_write_has_each_session_whole(
    server: RedisServer, proxy: CuttingProxy, store: RedisStore, passed: int
) -> None:
    through = RedisStore.open(server.options(url=proxy.url))
    through.write(opening(MANY))
    proxy.cut_after_bytes(passed, server.kill)
    with pytest.raises(StoreUnavailable):
        through.write(moving(MANY, 2))
    server.start()
    for birth, session in zip(MANY, store.read(MANY), strict=True):
        assert session is not None
        assert_at(session, birth, int(session.row["position"]))
    assert through.write(moving(MANY, 2)).moved == []
    for birth, session in zip(MANY, store.read(MANY), strict=True):
        assert_at(session, birth, 2)
    through.close()


@pytest.mark.parametrize("passed", [100, 20_000, 150_000, 200_000])
def test_a_connection_cut_in_the_middle_of_a_write_is_opened_again(
    server: RedisServer, proxy: CuttingProxy, passed: int
) -> None:
    store = RedisStore.open(server.options(url=proxy.url))
    store.write(opening(MANY))
    proxy.cut_after_bytes(passed, proxy.cut)
    assert store.write(moving(MANY, 2)).moved == []
    for birth, session in zip(MANY, store.read(MANY), strict=True):
        assert_at(session, birth, 2)
    store.close()


def test_a_lost_reply_is_asked_for_again(server: RedisServer, store: RedisStore, proxy: CuttingProxy) -> None:
    through = RedisStore.open(server.options(url=proxy.url))
    proxy.cut_next_reply()
    assert through.write(opening([1, 2])).moved == []
    proxy.cut_next_reply()
    assert through.write(Block([Name(3, "ada", "s1")], [group_of([3, 2], 5)])).moved == []
    proxy.cut_next_reply()
    [claimed] = through.claim([2])
    assert claimed is not None
    proxy.cut_next_reply()
    assert through.find("ada", ["s1", "s2"]) == [3, 2]
    proxy.cut()
    assert store.usage() == through.usage()
    assert through.usage().sessions == 2
    through.close()


def test_a_server_that_is_away_is_named(server: RedisServer, store: RedisStore) -> None:
    server.kill()
    with pytest.raises(StoreUnavailable, match=r"redis\.sock cannot be reached"):
        store.write(opening([1]))
    with pytest.raises(StoreUnavailable):
        RedisStore.open(server.options())
    server.start()
    assert store.write(opening([1])).moved == []
    assert_at(store.read([1])[0], 1, 1)


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_the_options_say(server: RedisServer) -> None:
    store = RedisStore.open(server.options(timeout_s=SHORT_S))
    store.write(opening([1, 2]))
    server.pause()
    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        store.write(moving([1], 5))
    server.resume()
    assert write_until_done(store, moving([1], 6)).moved == []
    store.close()


def test_a_late_call_on_a_connection_given_up_changes_nothing(
    server: RedisServer, store: RedisStore, proxy: CuttingProxy
) -> None:
    late = RedisStore.open(server.options(url=proxy.url, timeout_s=SHORT_S))
    write_until_done(late, opening([1, 2]))
    proxy.hold_next_call()
    with pytest.raises(StoreUnavailable):
        late.write(moving([1], 5))
    write_until_done(late, moving([1], 6))
    proxy.deliver()
    assert_at(store.read([1])[0], 1, 6)
    late.close()


def test_scripts_that_the_server_forgot_are_loaded_again(server: RedisServer, store: RedisStore) -> None:
    store.write(opening([1]))
    with server.client() as client:
        client.script_flush()
    assert store.write(moving([1], 2)).moved == []
    assert_at(store.read([1])[0], 1, 2)


def test_full_memory_refuses_rows_and_lets_sessions_end(server: RedisServer, store: RedisStore) -> None:
    store.write(opening([1, 2, 3]))
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            store.write(moving([1], 2))
        assert_at(store.claim([1])[0], 1, 1)
        store.write(Block(ended=[2]))
        assert store.expire(used_before_ms=10, limit=1) != []
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            store.write(opening([4]))
        assert store.usage().sessions == 1
        client.config_set("maxmemory", 0)
    assert store.write(opening([4])).moved == []


def test_a_replica_is_refused_and_a_primary_that_becomes_one_is_waited_for(
    server: RedisServer, store: RedisStore
) -> None:
    store.write(opening([1]))
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match="replica"):
            store.write(moving([1], 2))
        with pytest.raises(StoreUnavailable, match="replica"):
            RedisStore.open(server.options())
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert store.write(moving([1], 2)).moved == []


def test_a_claim_between_two_writes_of_a_stale_writer(server: RedisServer, store: RedisStore) -> None:
    """Epochs alone would not tell: the stale writer has raised its own meanwhile."""
    stale = RedisStore.open(server.options())
    stale.write(opening([1, 2]))
    stale.write(moving([1, 2], 5))
    [claimed] = store.claim([1])
    assert claimed is not None
    ahead = int(claimed.row["epoch"]) + 3
    assert stale.write(moving([1, 2], 6, epoch=ahead)).moved == [1]
    stale.write(Block(ended=[1]))
    stale.write(Block([Name(1, "ada", "s1")], [group_of([1], 7, epoch=ahead)]))
    assert_at(store.read([1])[0], 1, 5)
    assert store.write(moving([1], 9, epoch=int(claimed.row["epoch"]))).moved == []
    stale.close()


def test_a_writer_that_slept_is_told_of_every_takeover(server: RedisServer, store: RedisStore) -> None:
    """Ends are forgotten meanwhile: neither rows nor a name that is written again revive what has ended."""
    sleeper = RedisStore.open(server.options(timeout_s=SHORT_S))
    awake = RedisStore.open(server.options(forget_ended_s=0))
    sleeper.write(opening([1, 2, 3]))
    server.pause()
    with pytest.raises(StoreUnavailable):
        sleeper.write(opening([4]))
    server.resume()
    while not awake.find("ada", ["s4"])[0]:
        pass
    assert None not in awake.claim([1, 2, 4])
    awake.write(Block(ended=[2, 4]))
    while awake.tidy(seconds=1):
        pass
    late = Block([Name(4, "ada", "s4")], [group_of([1, 2, 3, 4], 8)])
    assert write_until_done(sleeper, late).moved == [1, 2, 4]
    assert awake.find("ada", ["s1", "s2", "s3", "s4"]) == [1, 0, 3, 0]
    assert sleeper.write(opening([5])).moved == []
    for one in (sleeper, awake):
        one.close()


def test_an_idle_writer_may_open_sessions_after_ends_were_forgotten(server: RedisServer) -> None:
    idle = RedisStore.open(server.options())
    awake = RedisStore.open(server.options(forget_ended_s=0))
    awake.write(opening([1]))
    awake.write(Block(ended=[1]))
    while awake.tidy(seconds=1):
        pass
    assert idle.write(opening([2])).moved == []
    for one in (idle, awake):
        one.close()


def test_a_server_that_lost_everything_is_told_apart_from_takeovers(
    server: RedisServer, store: RedisStore
) -> None:
    store.write(opening([1]))
    with server.client() as client:
        client.flushall()
        with pytest.raises(StoreLost, match="lost the sessions"):
            store.write(moving([1], 2))
        other = RedisStore.open(server.options())
        other.write(opening([2]))
        with pytest.raises(StoreLost, match="another store"):
            store.write(moving([1], 2))
        store.begin_anew()
        store.begin_anew()
        assert store.write(opening([1])).moved == []
        [mine], [theirs] = other.read([1]), store.read([2])
        assert mine is not None
        assert theirs is not None
        other.close()


def test_a_session_that_lost_its_state_is_named_and_not_claimed(
    server: RedisServer, store: RedisStore
) -> None:
    store.write(opening([1, 2]))
    with server.client() as client:
        client.set(b"statewise:s:" + np.uint64(2).tobytes(), b"short")
    for call in (store.claim, store.read):
        with pytest.raises(StoreDamaged, match="lost a part") as damaged:
            call([1, 2])
        assert damaged.value.births == (2,)
    [read] = store.read([1])
    assert read is not None
    assert read.row["epoch"] == 0
    whole, damaged_one = store.list_sessions("ada", after=("", ""), limit=9)
    assert whole.damage is None
    assert damaged_one.damage is not None
    assert (damaged_one.row["birth"], damaged_one.row["handle"], damaged_one.model) == (2, 1_002, "digits")


def test_a_session_that_lost_its_checkpoints_is_named_and_not_claimed(
    server: RedisServer, store: RedisStore
) -> None:
    kept = [checkpoint(1), checkpoint(2), checkpoint(2, "b"), checkpoint(3)]
    store.write(replace(opening([1, 2, 3]), checkpoints=kept))
    with server.client() as client:
        client.hdel(b"statewise:c:" + np.uint64(2).tobytes(), "b")
        client.delete(b"statewise:c:" + np.uint64(3).tobytes())
    for call in (store.claim, store.read, lambda births: store.read_own("ada", [b + 1_000 for b in births])):
        with pytest.raises(StoreDamaged, match="lost a part") as damaged:
            call([1, 2, 3])
        assert damaged.value.births == (2, 3)
    [read] = store.read([1])
    assert read is not None
    assert (int(read.row["epoch"]), read.checkpoints) == (0, [checkpoint(1)])
    assert store.list_sessions("ada", after=("", "s2"), limit=9)[-1].damage is not None
    store.write(Block(ended=[1, 2, 3]))
    assert store.usage().stored_bytes == 0


def test_a_newer_format_is_refused_by_its_number(server: RedisServer, store: RedisStore) -> None:
    with server.client() as client:
        client.set("statewise:format", "statewise 2 00ff")
    with pytest.raises(StoreVersionError, match="format 2; this version of statewise reads format 1"):
        store.write(opening([1]))
    with pytest.raises(StoreVersionError, match="format 2"):
        RedisStore.open(server.options())


def test_stores_of_two_prefixes_share_a_server(server: RedisServer, store: RedisStore) -> None:
    other = RedisStore.open(server.options(prefix="other:"))
    store.write(opening([1]))
    assert other.read([1]) == [None]
    assert other.usage().sessions == 0
    other.close()


def test_everything_goes_when_the_last_session_ends(server: RedisServer, store: RedisStore) -> None:
    store.write(opening(MANY))
    store.write(Block(groups=[group_of(MANY[:9], 2, model="other", size=STATE_BYTES + 8)]))
    store.write(Block([Name(9_999, "ada", "s5")], [group_of([9_999], 1), group_of([5], 3)]))
    kept = [checkpoint(birth, name) for birth in MANY for name in "ab"]
    store.write(Block(checkpoints=kept, dropped=[(MANY[0], "a")]))
    store.write(Block(dropped=[(MANY[0], name) for name in "ab"]))
    store.write(Block(ended=[*MANY, 9_999]))
    with server.client() as client:
        left = set(client.keys("*"))
    assert {name for name in left if not name.startswith(b"statewise:w:")} == {
        b"statewise:format",
        b"statewise:ended",
    }
