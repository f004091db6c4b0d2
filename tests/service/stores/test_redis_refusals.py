"""What a store in Redis does where its user lacks a command, or its primary has become a replica."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from tests.service.stores.blocks import assert_at, moving, opening
from tests.service.stores.redis_server import redis_server

from statewise.service.stores import Block, StoreError, StoreUnavailable
from statewise.service.stores.redis import RedisStore

COMMANDS = [
    "EVALSHA",
    "EXISTS",
    "GET",
    "HDEL",
    "HINCRBY",
    "HSET",
    "MSET",
    "SET",
    "TIME",
    "UNLINK",
    "ZADD",
    "ZREM",
]


def contents(client: Redis) -> dict[object, object]:
    """Everything that the server has."""
    return {key: client.dump(key) for key in client.scan_iter()}


def test_a_user_who_lacks_a_command_changes_nothing_by_halves() -> None:
    """Redis does not undo what a script has done before it comes to a command that its user lacks."""
    with redis_server() as server, server.client() as client:
        store = RedisStore.open(server.options())
        for number, command in enumerate(COMMANDS):
            one, two, three = (3 * number + birth for birth in (1, 2, 3))
            store.write(opening([one, two]))
            client.execute_command("ACL", "SETUSER", "default", f"-{command}")
            acts: list[Callable[[], object]] = [
                lambda: store.write(opening([three])),  # noqa: B023 - called in this turn
                lambda: store.write(moving([one], 2)),  # noqa: B023
                lambda: store.claim([one]),  # noqa: B023
                lambda: store.write(Block(ended=[two])),  # noqa: B023
                lambda: store.expire(used_before_ms=2, limit=1),
                lambda: store.tidy(seconds=0),
            ]
            for act in acts:
                before = contents(client)
                with pytest.raises(
                    StoreError, match="does not permit this user what the store needs"
                ) as told:
                    act()
                assert command in str(told.value).upper()
                assert contents(client) == before, command
            client.execute_command("ACL", "SETUSER", "default", f"+{command}")
            assert_at(store.claim([one])[0], one, 1)
        listed = store.list_sessions(None, after=("", ""), limit=1_000)
        assert len(listed) == store.usage().sessions == 2 * len(COMMANDS)
        store.close()


def test_the_user_of_the_documentation_has_all_that_is_needed() -> None:
    page = Path(__file__).parents[3] / "docs" / "durability.md"
    [user] = re.findall(r"^user statewise on >\S+ (.+)$", page.read_text(), re.MULTILINE)
    with redis_server("--user", "statewise", "on", ">secret", *user.split()) as server:
        url = server.url.replace("unix://", "unix://statewise@x")
        store = RedisStore.open(server.options(url=url, password="secret"))
        assert store.persistence().appendfsync == "always"
        store.write(opening([1, 2]))
        assert store.write(moving([1], 2)).moved == []
        assert_at(store.claim([1])[0], 1, 2)
        assert store.find("ada", ["s1"]) == [1]
        assert len(store.list_sessions(None, after=("", ""), limit=9)) == store.usage().sessions == 2
        store.write(Block(ended=[2]))
        assert store.expire(used_before_ms=9, limit=9) == [1]
        assert not store.tidy(seconds=1)
        store.close()


def test_an_address_is_looked_up_again_when_its_server_became_a_replica() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="redis-") as folder,
        redis_server() as server,
        redis_server() as promoted,
        server.client() as client,
        promoted.client() as other,
    ):
        name = Path(folder, "name")
        name.symlink_to(server.socket)
        store = RedisStore.open(server.options(url=f"unix://{name}"))
        other.set("statewise:format", str(client.get("statewise:format"), "ascii"))
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        name.unlink()
        name.symlink_to(promoted.socket)
        with pytest.raises(StoreUnavailable, match="read-only replica"):
            store.write(opening([1]))
        store.write(opening([1]))
        assert_at(store.read([1])[0], 1, 1)
        store.close()
