"""Runs random programs against a reference: two programs, two servers, drains, restarts, cuts in replays.

A program that uses sessions must see what its own inputs lead to, or an error that says why not; never a
state of another program, nor one that lacks inputs. Inputs are distinct powers of two: a sum names them.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.faults.sum_server import SumServer
from tests.client.faults.world import World

from statewise.client import (
    CheckpointNotFound,
    InvalidInput,
    SessionLost,
    SessionMoved,
    StatewiseError,
    Unavailable,
)
from statewise.client.requests import OpenOptions, Plan
from statewise.client.sessions import Journal, SessionCore
from statewise.client.states import checkpoint_of, delete_checkpoint_of, rewind_of, set_state_of
from statewise.client.values import Status

EXAMPLES = int(os.environ.get("FAULTS_EXAMPLES", "200"))
ENDED = Status("UNAVAILABLE", message="the server ended the stream")
FAULTS = st.sampled_from(
    ["send", "send", "send", "deliver", "deliver", "wait", "cut", "kill", "drain", "flip", "other"]
)
STATE_DEEDS = ("write", "mark", "unmark", "go_back", "fork_back", "begin")
DEEDS = st.sampled_from(
    ["step", "step", "chunk", "fork", "snapshot", "rewind", "rewind_far", "reopen", *STATE_DEEDS]
)
State = tuple[int, tuple[int, ...]]
"""Total, and the totals before the last requests that can be undone, the earliest first."""


@dataclass
class Scene:
    """Two servers and the programs that use them."""

    retry_for_s: float
    programs: int
    servers: list[SumServer] = field(default_factory=list)
    worlds: list[World] = field(default_factory=list)

    def __post_init__(self) -> None:
        handles = itertools.count(1)
        self.servers = [SumServer(handles), SumServer(handles)]
        self.servers[1].has_store = False
        self.worlds = [
            World(
                retry_for_s=self.retry_for_s,
                server=self.servers[0],
                prefix=f"program {number}",
                store_kind="none",
            )
            for number in range(self.programs)
        ]

    def fault(self, name: str, world: World) -> None:
        """Moves the world of a program by one event."""
        if name == "kill":
            server = world.server
            server.forget()
            for each in self.worlds:
                if each.is_connected_to(server):
                    each.cut()
        elif name == "drain":
            server = world.server
            for each in self.worlds:
                if each.server is server:
                    each.drain(self._other(server))
        elif name == "flip":
            # A network that fails, and leads elsewhere afterwards; the server lives on.
            world.server = self._other(world.server)
            world.cut()
        elif name == "other":
            for each in self.worlds:
                if each is not world:
                    each.settle()
        else:
            getattr(world, name)()

    def finish(self, plan: Plan[Any], world: World, faults: Iterator[str]) -> Any:
        """Carries a plan out, with faults while it lasts."""
        try:
            effect = next(plan)
            while True:
                try:
                    outcome = (
                        self.operate(effect.operation, world, faults)
                        if hasattr(effect, "operation")
                        else world.answer(effect)
                    )
                except StatewiseError as error:
                    effect = plan.throw(error)
                else:
                    effect = plan.send(outcome)
        except StopIteration as stop:
            return stop.value

    def operate(self, operation: Any, world: World, faults: Iterator[str]) -> Any:
        """Carries an operation out, with faults while it lasts."""
        pending_call = world.submit(operation)
        while not pending_call.future.done():
            fault = next(faults, None)
            if fault is None:
                for each in self.worlds:
                    each.settle()
            else:
                self.fault(fault, world)
        return pending_call.future.result(0)

    def _other(self, server: SumServer) -> SumServer:
        return self.servers[1 - self.servers.index(server)]


@dataclass
class Held:
    """A session of a program, and what its state may be by the reference."""

    core: SessionCore
    states: set[State]
    """More than one where the program was told that a step may have been applied."""
    marks: dict[str, set[int]] = field(default_factory=dict)
    """What the totals of its checkpoints may be, by name."""

    def stepped(self, added: int, totals: set[int] | None = None) -> set[State]:
        """The states after a step that adds so much; `totals`: to one of these."""
        keep = self.core.remote.keep
        return {
            (total + added, (*kept, total)[-keep:])
            for total, kept in self.states
            if totals is None or total in totals
        }

    def settle(self, total: int, added: int) -> None:
        """Compares the total that a step began from, and goes on from there."""
        assert total in {each for each, _ in self.states}, (total, self.states)
        self.states = self.stepped(added, {total})

    def rewound(self, requests: int) -> set[State]:
        """The states after so many requests are undone."""
        return {(kept[-requests], kept[:-requests]) for _, kept in self.states if len(kept) >= requests}


@dataclass
class Program:
    """One program: its sessions, and what they should hold."""

    scene: Scene
    world: World
    bits: Iterator[int]
    alone: bool
    sessions: list[Held] = field(default_factory=list)

    def open(self, session_id: str | None, faults: Iterator[str], *, keep: int = 1, total: int = 0) -> None:
        """Opens a session that begins with a total, or takes over the one of that id."""
        options = OpenOptions(keep=keep, state={"total": total} if total else None)
        plan = self.world.core.sessions.open("sum", session_id, None, None, options)
        core: SessionCore = self.scene.finish(plan, self.world, faults)
        held = next(
            (server.sessions[core.remote.id] for server in self.scene.servers
             if core.remote.id in server.sessions
             and server.sessions[core.remote.id].birth == core.remote.birth),
            None,
        )  # fmt: skip
        # None: the server was killed after its reply.
        if held is not None or not core.remote.position:
            kept = () if held is None else held.kept_totals
            self.sessions.append(Held(core, {(total if held is None else held.total, kept)}))

    def perform(self, deed: str, chosen: int, faults: Iterator[str]) -> None:
        """Does one thing with one session, and compares what comes back with the reference."""
        held = self.sessions[chosen % len(self.sessions)]
        try:
            getattr(self, f"_{deed}")(held, faults)
        except Unavailable:
            assert self.world.core.multiplexer.retry_for_s == 0
        except CheckpointNotFound:
            # A server that has no store lost it, also where an earlier deed asked for it.
            held.marks.clear()
        except SessionMoved:
            assert not self.alone
            self.sessions.remove(held)
        except SessionLost:
            # Its first inputs came from another program, or from the session that it was copied from.
            remote = held.core.remote
            assert remote.origin is None or cast(Journal, remote.journal).start != 0
            self.sessions.remove(held)
        if not self.sessions:
            self.open(None, iter(()))

    def _step(self, held: Held, faults: Iterator[str]) -> None:
        bit = next(self.bits)
        try:
            output = self.scene.operate(held.core.step(np.int64(bit)), self.world, faults)
        except Unavailable:
            held.states |= held.stepped(bit)
            raise
        held.settle(int(output) - bit, bit)

    def _chunk(self, held: Held, faults: Iterator[str]) -> None:
        bits = [next(self.bits) for _ in range(3)]
        added = sum(bits)
        try:
            outputs = self.scene.operate(held.core.step(np.array(bits, np.int64)), self.world, faults)
        except Unavailable:
            held.states |= held.stepped(added)
            raise
        total = int(outputs[-1]) - added
        assert outputs.tolist() == [total + part for part in itertools.accumulate(bits)]
        held.settle(total, added)

    def _fork(self, held: Held, faults: Iterator[str]) -> None:
        plan = self.world.core.sessions.fork(held.core, None, None)
        core = self.scene.finish(plan, self.world, faults)
        assert core.remote.position == held.core.remote.position
        self.sessions.append(Held(core, {(total, ()) for total, _ in held.states}))

    def _snapshot(self, held: Held, faults: Iterator[str]) -> None:
        token = self.scene.operate(held.core.snapshot(), self.world, faults)
        core = self.scene.finish(self.world.core.sessions.restore(token, None, None), self.world, faults)
        self.sessions.append(Held(core, {(total, ()) for total, _ in held.states}))

    def _rewind(self, held: Held, faults: Iterator[str]) -> None:
        try:
            self.scene.operate(held.core.rewind(), self.world, faults)
        except InvalidInput:
            held.states = {(total, kept) for total, kept in held.states if not kept}
        else:
            held.states = held.rewound(1)
        assert held.states

    def _rewind_far(self, held: Held, faults: Iterator[str]) -> None:
        """Undoes all requests that are kept but the first."""
        for _ in range(held.core.remote.keep - len(held.core.remote.kept_positions)):
            self._step(held, iter(()))
        positions = held.core.remote.kept_positions
        if len(positions) > 1:
            try:
                self.scene.operate(rewind_of(held.core, positions[1]), self.world, faults)
            except InvalidInput:  # what was uncertain has left other positions
                held.states = {(total, kept) for total, kept in held.states if len(kept) != len(positions)}
            else:
                held.states = held.rewound(len(positions) - 1)
            assert held.states

    def _write(self, held: Held, faults: Iterator[str]) -> None:
        written: State = (next(self.bits), ())
        try:
            operation = set_state_of(held.core, {"total": written[0]}, None)
            self.scene.operate(operation, self.world, faults)
        except Unavailable:
            held.states |= {written}
            raise
        held.states = {written}

    def _mark(self, held: Held, faults: Iterator[str]) -> None:
        name = str(next(self.bits))
        self.scene.operate(checkpoint_of(held.core, name), self.world, faults)
        held.marks[name] = {total for total, _ in held.states}

    def _go_back(self, held: Held, faults: Iterator[str]) -> None:
        if not held.marks:
            self._mark(held, iter(()))
            self._step(held, iter(()))
        name, totals = next(iter(held.marks.items()))
        there: set[State] = {(total, ()) for total in totals}
        try:
            self.scene.operate(rewind_of(held.core, name), self.world, faults)
        except Unavailable:
            held.states |= there
            raise
        held.states = there

    def _unmark(self, held: Held, faults: Iterator[str]) -> None:
        for name in list(held.marks)[:1]:
            self.scene.operate(delete_checkpoint_of(held.core, name), self.world, faults)
            del held.marks[name]

    def _fork_back(self, held: Held, faults: Iterator[str]) -> None:
        if not held.marks:
            self._mark(held, iter(()))
        name, totals = next(iter(held.marks.items()))
        plan = self.world.core.sessions.fork(held.core, None, None, name)
        core = self.scene.finish(plan, self.world, faults)
        self.sessions.append(Held(core, {(total, ()) for total in totals}))

    def _begin(self, held: Held, faults: Iterator[str]) -> None:
        self.open(None, faults, keep=3, total=next(self.bits))

    def _reopen(self, held: Held, faults: Iterator[str]) -> None:
        if not self.alone:
            self.open("shared", faults)


deeds = st.lists(
    st.tuples(st.integers(0, 1), DEEDS, st.integers(0, 5), st.lists(FAULTS, max_size=14)), max_size=14
)


@pytest.mark.parametrize("programs", [1, 2])
@given(deeds=deeds, retry_for_s=st.sampled_from([0.0, 1e9]))
@settings(deadline=None, max_examples=EXAMPLES)
def test_programs_see_their_own_inputs_or_are_told(
    programs: int, deeds: list[tuple[int, str, int, list[str]]], retry_for_s: float
) -> None:
    scene = Scene(retry_for_s, programs)
    bits = (1 << place for place in itertools.count())
    members = [Program(scene, world, bits, alone=programs == 1) for world in scene.worlds]
    for program in members:
        program.open(None if program.alone else "shared", iter(()))
        program.open(None, iter(()), keep=3)
    for number, deed, chosen, faults in deeds:
        members[number % programs].perform(deed, chosen, iter(faults))
    for world in scene.worlds:
        world.settle()
        world.core.multiplexer.retry_for_s = 1e9
    for program in members:
        for index in reversed(range(len(program.sessions))):
            program.perform("step", index, iter(()))
