"""Keeps sessions in a Redis server: one script call a write, one string a session.

A session's entry in the server tells which writer claimed it last. The script that writes compares the
entries with the rows, in the server's memory, and leaves out rows of lower epochs and of sessions that
another writer claimed. So no list of takeovers is needed, and a writer that slept is told of a takeover
however long it slept.

Births of ended sessions are remembered for a time (`forget_ended_s`), so that a write that is repeated
revives none.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    ReadOnlyError,
    TimeoutError,
)

from statewise.service.stores._block import Block
from statewise.service.stores._store import READ_BYTES, Listed, StoredSession, Usage, Written
from statewise.service.stores.redis._command_packer import Argument
from statewise.service.stores.redis._connection import connect
from statewise.service.stores.redis._errors import FORMAT, format_error, store_errors
from statewise.service.stores.redis._options import RedisOptions, parse_address
from statewise.service.stores.redis._packing import check_names, pack_births, portions
from statewise.service.stores.redis._replies import FoundSession, births_of, listed_of, sessions_of
from statewise.service.stores.redis._scripts import Scripts
from statewise.service.stores.redis._server import Persistence, check_server, read_persistence

CLAIMED_TOGETHER = 256
"""Sessions that one call claims or reads."""
LOOKED_UP_TOGETHER = 1000
"""Sessions that one call finds, lists or forgets."""
ENDED_TOGETHER = 256
"""Sessions that one call ends: some 10 ms of the server's time."""
NO_BIRTH = bytes(8)

Item = TypeVar("Item")


class RedisStore:
    """A store in a Redis or Valkey server, one primary or the one that Sentinels name.

    A block is written whole or not at all if it has at most 1,024 rows (256 if it names sessions) and 4 MiB.
    A larger one is written in portions of that size, because a script holds up the server: after
    StoreUnavailable each of its sessions is written or not, with its checkpoints, and repeating the block
    writes the rest. Ended sessions end before rows are written.

    A call that has lost its connection is repeated once, at once.
    """

    def __init__(self, client: Redis, options: RedisOptions, clock: Callable[[], float]) -> None:
        self._client = client
        self._server = options.url
        self._scripts = Scripts(client, options.prefix)
        self._forget_ended_ms = round(options.forget_ended_s * 1000)
        self._clock = clock
        self._writer = os.urandom(7) + b"\1"  # the last byte is another one than NAMED of the scripts
        self._calls = 0
        self._format = b""
        self._seen_ms = 0
        self._doubt_ms: int | None = None
        self.read_bytes = READ_BYTES
        """See `Store`."""

    @classmethod
    def open(cls, options: RedisOptions, *, clock: Callable[[], float] = time.monotonic) -> "RedisStore":
        """Connects, checks the server, and begins an empty store where there is none.

        Raises:
            StoreUnavailable: The server is away, or a read-only replica.
            StoreVersionError: The server has sessions in another format.
            StoreError: It is older than Redis 7.0, is a cluster, or refuses user or password; or an option
                is wrong.
        """
        store = cls(connect(parse_address(options.url), options), options, clock)
        try:
            store._begin()
        except BaseException:
            store.close()
            raise
        return store

    def _begin(self) -> None:
        with store_errors(self._server):
            check_server(self._client, self._server)
            found, self._seen_ms = self._scripts.run(
                "open", f"statewise {FORMAT} {os.urandom(8).hex()}".encode()
            )
        words = found.split()
        if words[:2] != [b"statewise", FORMAT.encode()] or len(words) != 3:
            raise format_error(self._server, found.decode(errors="replace"))
        self._format = found

    def begin_anew(self) -> None:
        """Begins an empty store on a server that has lost what it had, or joins it; see `Store`."""
        self._begin()
        self._doubt_ms = None

    def persistence(self) -> Persistence:
        """Asks what the server keeps of what it acknowledged, as far as this user may know."""
        with store_errors(self._server):
            return read_persistence(self._client)

    def write(self, block: Block) -> Written:
        """Writes a block: see the class for what of a large one is atomic."""
        check_names(block)
        kept: list[bytes] = []
        for births in _in_portions(block.ended, ENDED_TOGETHER):
            self._seen_ms, claimed = self._run("end", pack_births(births), numbered=True)
            kept += claimed
        moved: list[bytes] = []
        stored_bytes = 0
        for portion in portions(block, without=set(block.ended)):
            reply = self._run("write", *portion.arguments, numbered=True)
            self._seen_ms, left_out, written_bytes = reply
            moved += left_out
            stored_bytes += written_bytes
        if block.groups:
            self._doubt_ms = None
        return Written(births_of(moved), stored_bytes, births_of(kept))

    def find(self, owner: str, session_ids: Sequence[str]) -> list[int]:
        """Returns the births of an owner's sessions, 0 for an id that no session has."""
        return self._find("ids:" + owner, [one.encode() for one in session_ids])

    def find_handles(self, handles: Sequence[int]) -> list[int]:
        """Returns the births of the sessions that have these handles, 0 for a handle that none has."""
        return self._find("handles", [pack_births([one]) for one in handles])

    def _find(self, key: str, names: Sequence[bytes]) -> list[int]:
        found: list[bytes | None] = []
        for some in _in_portions(names, LOOKED_UP_TOGETHER):
            found += self._run("find", key.encode(), *some)
        return births_of([birth or NO_BIRTH for birth in found])

    def claim(self, births: Sequence[int]) -> list[StoredSession | None]:
        """Makes this writer the one that these sessions belong to, and returns their newest states."""

        def claim(some: Sequence[int], most_bytes: int) -> list[FoundSession | None]:
            self._seen_ms, found = self._run("claim", pack_births(some), most_bytes, numbered=True)
            return [FoundSession.of(parts) for parts in found]

        return self._first(births, lambda some: some, claim)

    def read(self, births: Sequence[int]) -> list[StoredSession | None]:
        """Returns the newest states of sessions without claiming them."""
        return self._first(births, lambda some: some, self._read)

    def read_own(self, owner: str, handles: Sequence[int]) -> list[StoredSession | None]:
        """Returns this writer's sessions by handle; see `Store.read_own`."""
        wanted = dict[int, int]()

        def find(some: Sequence[int]) -> list[int]:
            births = self.find_handles(some)
            wanted.update(zip(births, some, strict=True))
            return births

        def read(births: Sequence[int], most_bytes: int) -> list[FoundSession | None]:
            return [
                replace(one, own=b"1") if one and one.is_own(owner, self._writer, wanted[birth]) else None
                for one, birth in zip(self._read(births, most_bytes), births, strict=False)
            ]

        return self._first(handles, find, read)

    def _read(self, births: Sequence[int], most_bytes: int) -> list[FoundSession | None]:
        return [FoundSession.of(parts) for parts in self._run("read", pack_births(births), most_bytes)]

    def _first(
        self,
        items: Sequence[int],
        births_of_items: Callable[[Sequence[int]], Sequence[int]],
        read: Callable[[Sequence[int], int], list[FoundSession | None]],
    ) -> list[StoredSession | None]:
        """Reads sessions until they have `read_bytes`."""
        sessions: list[StoredSession | None] = []
        left = self.read_bytes
        for some in _in_portions(items, CLAIMED_TOGETHER):
            births = births_of_items(some)
            found = read(births, left)
            sessions += sessions_of(self._server, births[: len(found)], found)
            left -= sum(one.size_bytes for one in found if one)
            if len(found) < len(births) or left <= 0:
                break
        return sessions

    def end(self, owner: str, births: Sequence[int]) -> None:
        """Ends an owner's sessions, whichever writer they belong to."""
        for some in _in_portions(births, ENDED_TOGETHER):
            self._seen_ms, _ = self._run("end", pack_births(some), owner.encode(), numbered=True)

    def list_sessions(self, owner: str | None, *, after: tuple[str, str], limit: int) -> list[Listed]:
        """Lists sessions ordered by owner and id, beginning after a pair of both; of one owner, or of all."""
        if owner is not None and after[0] > owner:
            return []
        if owner is not None and after[0] < owner:
            after = (owner, "")
        which = b"all" if owner is None else b"one"
        listed: list[Listed] = []
        while len(listed) < limit:
            most = min(limit - len(listed), LOOKED_UP_TOGETHER)
            found = self._run("list", which, after[0].encode(), after[1].encode(), most)
            listed += [listed_of(one) for one in found]
            if len(found) < most:
                break
            after = (listed[-1].owner, listed[-1].session_id)
        return listed

    def usage(self, owner: str | None = None) -> Usage:
        """Returns how much an owner has, or all owners: rows of 64 bytes, states and checkpoints."""
        names = ("n", "b") if owner is None else (f"n:{owner}", f"b:{owner}")
        sessions, stored_bytes = self._run("find", b"usage", *(one.encode() for one in names))
        return Usage(int(sessions or 0), int(stored_bytes or 0))

    def expire(self, *, used_before_ms: int, limit: int) -> list[int]:
        """Ends sessions that were last used before a time, at most `limit`; returns their births."""
        ended: list[bytes] = []
        more = True
        while more and len(ended) < limit:
            most = min(limit - len(ended), ENDED_TOGETHER)
            births, more = self._run("expire", used_before_ms, most)
            ended += births
        return births_of(ended)

    def tidy(self, *, seconds: float) -> bool:
        """Forgets which sessions ended `forget_ended_s` ago; see `Store`."""
        end = self._clock() + seconds
        while self._run("forget", self._forget_ended_ms, LOOKED_UP_TOGETHER) == LOOKED_UP_TOGETHER:
            if self._clock() >= end:
                return True
        return False

    def close(self) -> None:
        """Gives the connection back. Repeating does nothing."""
        self._client.close()

    def _run(self, name: str, *arguments: Argument, numbered: bool = False) -> Any:
        """Runs a script; where the connection is lost, once more.

        A numbered call that arrives after a later one of this writer, on a connection that was given up, does
        nothing.
        """
        with store_errors(self._server):
            try:
                return self._try(name, arguments, numbered)
            except ReadOnlyError:
                # After a failover the name in the address may mean another server: it is looked up again.
                self._client.connection_pool.disconnect()
                raise
            except (AuthenticationError, BusyLoadingError):
                raise
            except ConnectionError:
                return self._try(name, arguments, numbered)

    def _try(self, name: str, arguments: Sequence[Argument], numbered: bool) -> Any:
        leading: tuple[Argument, ...] = ()
        if numbered:
            self._calls += 1
            leading = (self._writer, self._calls)
        if name == "write":
            leading += (b"" if self._doubt_ms is None else self._doubt_ms,)
        try:
            return self._scripts.run(name, self._format, *leading, *arguments)
        except (ConnectionError, TimeoutError):
            if self._doubt_ms is None:
                self._doubt_ms = self._seen_ms
            raise


def _in_portions(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[first : first + size] for first in range(0, len(items), size))
