"""Which servers a store in Redis accepts, how it reaches them, and what it tells of them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from tests.service.stores.blocks import assert_at, moving, opening
from tests.service.stores.redis_server import free_port, redis_server
from tests.service.stores.sentinel import sentinel

from statewise.service.stores import StoreError, StoreUnavailable
from statewise.service.stores.redis import RedisOptions, RedisStore


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "is not an address"),
        ("http://localhost", "is not an address"),
        ("redis://", "names no host"),
        ("redis://localhost:x", "no valid port"),
        ("redis://a,b", "is not an address"),
        ("redis://localhost/one", "database 'one', which is no number"),
        ("redis://localhost/1/2", "is not an address"),
        ("redis://localhost?db=1", "is not an address"),
        ("redis+sentinel://localhost:26379", "is not an address"),
        ("unix://", "has no path"),
        ("redis://someone@localhost", "no password: set store_password_file"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        RedisStore.open(RedisOptions(url))


@pytest.mark.parametrize("url", ["redis://:hunter2@localhost", "rediss://me:hunter2@localhost:1/0"])
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StoreError, match="store_password_file names, or in") as refused:
        RedisStore.open(RedisOptions(url))
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(RedisOptions("redis://localhost", password="hunter2"))


def test_a_password_comes_from_a_file_or_a_value(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("right\n")
    with redis_server("--requirepass", "right") as server:
        for options in (server.options(password="right"), server.options(password_file=file)):
            RedisStore.open(options).close()
        with pytest.raises(StoreError, match="refused user or password") as refused:
            RedisStore.open(server.options(password="wrong"))
        assert "wrong" not in str(refused.value).replace("WRONGPASS", "")
        with pytest.raises(StoreError, match="refused user or password"):
            RedisStore.open(server.options())


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"\n", "empty"), (b"\xff", "UTF-8")])
def test_a_password_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with redis_server() as server, pytest.raises(StoreError, match=says) as refused:
        RedisStore.open(server.options(password_file=file))
    assert str(file) in str(refused.value)


def test_a_changed_password_is_read_at_the_next_connecting(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first")
    with redis_server("--requirepass", "first") as server:
        store = RedisStore.open(server.options(password_file=file))
        with Redis(unix_socket_path=str(server.socket), password="first") as client:
            client.config_set("requirepass", "second")
            file.write_text("second")
            client.client_kill_filter(_type="normal", skipme=True)
        assert store.write(opening([1])).moved == []
        store.close()


def test_a_user_who_may_not_read_the_configuration_can_keep_sessions() -> None:
    with redis_server() as server:
        with server.client() as client:
            commands = ["+@all", "-config"]
            client.acl_setuser(
                "keeper", enabled=True, passwords="+secret", keys=["statewise:*"], commands=commands
            )
        url = server.url.replace("unix://", "unix://keeper@x")
        store = RedisStore.open(server.options(url=url, password="secret"))
        assert store.write(opening([1])).moved == []
        persistence = store.persistence()
        assert (persistence.appendonly, persistence.appendfsync, persistence.evicts) == (True, None, None)
        store.close()
        with pytest.raises(StoreError, match="does not permit"):
            RedisStore.open(server.options(url=url, password="secret", prefix="other:"))


def test_what_the_server_keeps_is_told() -> None:
    with redis_server("--appendfsync", "everysec") as server:
        store = RedisStore.open(server.options())
        told = store.persistence()
        assert (told.appendonly, told.appendfsync, told.evicts, told.warnings) == (
            True,
            "everysec",
            False,
            [],
        )
        with server.client() as client:
            client.config_set("appendfsync", "no")
            assert "appendfsync no" in store.persistence().warnings[0]
            client.config_set("appendonly", "no")
            client.config_set("maxmemory", "100mb")
            client.config_set("maxmemory-policy", "allkeys-lru")
        lost, evicted = store.persistence().warnings
        assert "appendonly no" in lost
        assert "noeviction" in evicted
        store.close()


def test_a_cluster_is_refused_by_name() -> None:
    ports = ("--port", str(free_port()), "--cluster-port", str(free_port()))
    with (
        redis_server("--cluster-enabled", "yes", *ports) as server,
        pytest.raises(StoreError, match="is a cluster"),
    ):
        RedisStore.open(server.options())


def test_an_older_server_is_refused_by_its_version() -> None:
    with (
        old_server() as port,
        pytest.raises(StoreError, match=r"Redis 6\.2\.14; the store needs 7\.0 or newer"),
    ):
        RedisStore.open(RedisOptions(f"redis://127.0.0.1:{port}"))


@contextmanager
def old_server() -> Iterator[int]:
    """Answers one connection as a server of release 6.2 does, whatever it is asked."""
    text = b"# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n"

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            while asked := connection.recv(4096):
                for _ in range(asked.count(b"\r\nCLIENT\r\n")):
                    connection.sendall(b"-ERR unknown command\r\n")
                if b"INFO\r\n" in asked.replace(b"SETINFO\r\n", b""):
                    connection.sendall(b"$%d\r\n%b\r\n" % (len(text), text))

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.long
def test_sentinels_name_the_primary_also_after_a_failover() -> None:
    ports = [free_port() for _ in range(3)]
    replica_of = ("--replicaof", f"127.0.0.1 {ports[0]}")
    with (
        redis_server("--port", str(ports[0])) as primary,
        redis_server("--port", str(ports[1]), *replica_of) as replica,
        sentinel(ports[2], ports[0]) as asked,
    ):
        with pytest.raises(StoreError, match="is a Sentinel"):
            RedisStore.open(RedisOptions(f"redis://127.0.0.1:{ports[2]}"))
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            RedisStore.open(RedisOptions(f"redis+sentinel://127.0.0.1:{ports[2]}/other"))
        store = RedisStore.open(RedisOptions(f"redis+sentinel://127.0.0.1:{ports[2]}/main"))
        store.write(opening([1, 2]))
        while not known_replicas(asked):
            pass
        with primary.client() as client:
            assert client.wait(1, 0) == 1
        primary.kill()
        while True:
            try:
                written = store.write(moving([1], 2))
                break
            except StoreUnavailable:
                continue
        assert written.moved == []
        assert_at(store.read([1])[0], 1, 2)
        assert_at(store.read([2])[0], 2, 1)
        store.close()
        through = RedisStore.open(replica.options())
        assert_at(through.read([1])[0], 1, 2)
        through.close()
        primary.start()


def known_replicas(asked: Redis) -> int:
    """How many replicas a Sentinel could make the primary."""
    try:
        found = asked.sentinel_slaves("main")
    except RedisError:
        return 0
    return sum(one["is_slave"] and one["master-link-status"] == "ok" for one in found)
