"""Runs random programs of several writers, and compares a store with a dictionary after every call."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.service.stores.blocks import STATE_BYTES, assert_at, checkpoint, group_of
from tests.service.stores.places import PLACES, Open

from statewise.service.stores import Block, Name, Store

IDS = st.integers(0, 3)
WRITERS = st.integers(0, 2)
NAMES = st.sampled_from("xy")
SESSION_BYTES = 64 + STATE_BYTES
PROGRAMS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), WRITERS, st.lists(IDS, min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("move"), WRITERS, st.lists(IDS, min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("keep"), WRITERS, st.lists(IDS, min_size=1, max_size=4, unique=True), NAMES),
        st.tuples(st.just("drop"), WRITERS, st.lists(IDS, min_size=1, max_size=4, unique=True), NAMES),
        st.tuples(st.just("repeat"), WRITERS),
        st.tuples(st.just("end"), WRITERS, IDS),
        st.tuples(st.just("close"), WRITERS, IDS),
        st.tuples(st.just("claim"), WRITERS, st.lists(IDS, min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("expire"), WRITERS, st.integers(0, 60)),
        st.tuples(st.just("tidy"), WRITERS),
        st.tuples(st.just("renew"), WRITERS),
    ),
    max_size=30,
)


@dataclass
class Writer:
    """A store, and the sessions that this writer believes to have: epoch by birth."""

    store: Store
    epochs: dict[int, int] = field(default_factory=dict)
    last: Block | None = None


@dataclass
class World:
    """What the stores should have.

    Attributes:
        names: Birth by number of the id.
        live: Of every session position, epoch and time of last use.
        kept: Positions of named checkpoints, by birth and name.
    """

    open_store: Open
    writers: list[Writer]
    names: dict[int, int] = field(default_factory=dict)
    live: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    kept: dict[tuple[int, str], int] = field(default_factory=dict)
    born: int = 0
    time: int = 0

    def open(self, writer: Writer, ids: list[int]) -> None:
        """Opens ids anew; who had them loses them."""
        self.time += 1
        births = list(range(self.born + 1, self.born + len(ids) + 1))
        self.born += len(ids)
        names = [Name(birth, "ada", f"s{one}") for birth, one in zip(births, ids, strict=True)]
        self.write(writer, Block(names, [group_of(births, self.time)]))
        for birth, one in zip(births, ids, strict=True):
            self.live.pop(self.names.get(one, 0), None)
            self.names[one] = birth
            self.live[birth] = (self.time, 0, self.time)
            writer.epochs[birth] = 0

    def move(self, writer: Writer, ids: list[int], *, keep: str = "", drop: str = "") -> set[int]:
        """Moves sessions that the writer believes to have, and perhaps has no more; returns those it has."""
        self.time += 1
        mine = sorted(writer.epochs)[-6:]
        births = sorted({mine[one % len(mine)] for one in ids}) if mine else []
        groups = [group_of([birth], self.time, epoch=writer.epochs[birth]) for birth in births]
        gone = [birth for birth in births if self.live.get(birth, (0, 99, 0))[1] > writer.epochs[birth]]
        new = [checkpoint(birth, keep, position=self.time) for birth in births if keep]
        dropped = [(birth, drop) for birth in births if drop]
        moved = self.write(writer, Block(groups=groups, checkpoints=new, dropped=dropped))
        assert sorted(moved) == gone
        for birth in set(births) - set(gone):
            self.live[birth] = (self.time, writer.epochs[birth], self.time)
        return set(births) - set(gone)

    def keep(self, writer: Writer, ids: list[int], name: str) -> None:
        """Moves sessions, and keeps checkpoints of them."""
        self.kept |= {(birth, name): self.time for birth in self.move(writer, ids, keep=name)}

    def drop(self, writer: Writer, ids: list[int], name: str) -> None:
        """Moves sessions, and drops checkpoints of them."""
        for birth in self.move(writer, ids, drop=name):
            self.kept.pop((birth, name), None)

    def write(self, writer: Writer, block: Block) -> list[int]:
        """Writes a block and remembers it."""
        writer.last = block
        return list(writer.store.write(block).moved)

    def repeat(self, writer: Writer) -> None:
        """Writes the last block again, as long as nothing of it is older than what the store has."""
        block = writer.last
        if block is None:
            return
        for group in block.groups:
            for row in group.rows:
                at, epoch, _ = self.live.get(int(row["birth"]), (0, 2**32, 0))
                if at > int(row["position"]) and epoch <= int(row["epoch"]):
                    return
        writer.store.write(block)

    def end(self, writer: Writer, one: int) -> None:
        """Ends a session, by a writer that takes it over first."""
        birth = self.names.pop(one, 0)
        writer.store.claim([birth])
        self.write(writer, Block(ended=[birth] if birth else []))
        self.live.pop(birth, None)

    def close(self, writer: Writer, one: int) -> None:
        """Ends a session, whoever has it; nobody ends one of another owner."""
        birth = self.names.pop(one, 0)
        writer.store.end("eve", [*self.live])
        writer.store.end("ada", [birth, 900])
        self.live.pop(birth, None)

    def claim(self, writer: Writer, ids: list[int]) -> None:
        """Takes sessions over."""
        births = [self.names.get(one, 900 + one) for one in ids]
        for birth, session in zip(births, writer.store.claim(births), strict=True):
            if birth not in self.live:
                assert session is None
                continue
            assert_at(session, birth, self.live[birth][0])
            assert session is not None
            epoch = int(session.row["epoch"])
            assert epoch > self.live[birth][1]
            writer.epochs[birth] = epoch
            self.live[birth] = (self.live[birth][0], epoch, self.live[birth][2])

    def expire(self, writer: Writer, before: int) -> None:
        """Ends what was not used for long."""
        old = sorted(birth for birth, (_, _, used) in self.live.items() if used < before)
        assert sorted(writer.store.expire(used_before_ms=before, limit=99)) == old
        for birth in old:
            del self.live[birth]
        self.names = {one: birth for one, birth in self.names.items() if birth in self.live}

    def tidy(self, writer: Writer) -> None:
        """Folds."""
        writer.store.tidy(seconds=0)

    def renew(self, writer: Writer) -> None:
        """Ends a writer and begins one that knows nothing."""
        writer.store.close()
        writer.store, writer.epochs, writer.last = self.open_store(), {}, None

    def check(self, store: Store) -> None:
        """Compares everything that can be asked."""
        births = list(range(1, self.born + 1))
        sessions = store.read(births)
        for birth, session in zip(births, sessions, strict=True):
            if birth in self.live:
                assert_at(session, birth, self.live[birth][0])
                assert session is not None
                assert {one.name: one for one in session.checkpoints} == {
                    name: checkpoint(birth, name, position=at)
                    for (of, name), at in self.kept.items()
                    if of == birth
                }
            else:
                assert session is None
        found = [birth if birth in self.live else 0 for birth in births]
        assert store.find_handles([birth + 1_000 for birth in births]) == found
        assert store.find("ada", [f"s{one}" for one in range(4)]) == [
            self.names.get(one, 0) for one in range(4)
        ]
        listed = store.list_sessions("ada", after=("", ""), limit=9)
        expected = [(f"s{one}", birth, self.live[birth][0]) for one, birth in sorted(self.names.items())]
        assert [
            (one.session_id, int(one.row["birth"]), int(one.row["position"])) for one in listed
        ] == expected
        assert store.usage().sessions == store.usage("ada").sessions == len(self.live)
        checkpoints = [one for session in sessions if session for one in session.checkpoints]
        assert store.usage().stored_bytes == store.usage("ada").stored_bytes
        assert store.usage().stored_bytes == len(self.live) * SESSION_BYTES + sum(
            one.size_bytes for one in checkpoints
        )


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=60, deadline=None)
@given(program=PROGRAMS)
def test_a_store_does_what_a_dictionary_does(place: str, program: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder, PLACES[place](Path(folder)) as open_store:
        world = World(open_store, [Writer(open_store()) for _ in range(3)])
        for number, (call, writer, *arguments) in enumerate(program):
            getattr(world, call)(world.writers[writer], *arguments)
            world.check(world.writers[number % 3].store)
