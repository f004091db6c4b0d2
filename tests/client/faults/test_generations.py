"""Generates with faults at any moment: each value comes once, and is applied once."""

from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.client.faults.sum_server import END, emitted
from tests.client.faults.world import World, collecting, generation_of

from statewise.client import SessionLost
from statewise.client.stream import PendingCall

GENERATING = st.sampled_from(
    ["send", "deliver", "cut", "kill", "store", "move", "wait", "step", "generate", "generate"]
)


@given(
    events=st.lists(st.tuples(GENERATING, st.integers(1, 9)), max_size=60),
    replay_bytes=st.sampled_from([1 << 20, 2000]),
)
@settings(deadline=None, max_examples=400)
def test_generations_give_each_value_once_and_are_applied_once(
    events: list[tuple[str, int]], replay_bytes: int
) -> None:
    world = World(replay_bytes=replay_bytes)
    session = world.session()
    asked: list[tuple[PendingCall[Any], int, list[int] | None]] = []
    for event, number in events:
        if event == "step":
            asked.append((world.submit(session.step(np.int64(number))), number, None))
        elif event == "generate":
            values: list[int] = []
            generation = session.generate(generation_of(session, number), collecting(values))
            asked.append((world.submit(generation), number, values))
        else:
            getattr(world, event)()
    world.settle()
    position = total = 0
    for pending_call, number, values_given in asked:
        if isinstance(pending_call.future.exception(0), SessionLost):
            return  # the journal no longer holds all inputs, and the caller got the error
        if values_given is None:
            total += number
            position += 1
            assert pending_call.future.result(0) == total
        else:
            pending_call.future.result(0)
            expected = emitted(position, total, number, seed=number)
            assert values_given == expected
            consumed = [value for value in expected if value != END]
            position += len(consumed)
            total += sum(consumed)
    assert session.remote.position == position
    last = world.submit(session.step(np.int64(1)))
    world.settle()
    if not isinstance(last.future.exception(0), SessionLost):
        assert last.future.result(0) == total + 1


@given(
    before=st.lists(st.sampled_from(["send", "deliver", "cut", "wait", "kill"]), max_size=12),
    after=st.lists(st.sampled_from(["send", "deliver", "cut", "wait", "kill"]), max_size=12),
    taken=st.integers(0, 9),
)
# The recovery is broken off between the opening and the replay.
@example(
    before=["kill", "wait", "send", "deliver", "send", "deliver", "send"], after=["deliver", "cut"], taken=0
)
@settings(deadline=None, max_examples=400)
def test_a_generation_left_early_is_one_of_what_was_taken(
    before: list[str], after: list[str], taken: int
) -> None:
    world = World()
    session = world.session()
    world.submit(session.step(np.int64(5)))
    world.settle()
    values: list[int] = []
    run = generation_of(session, 9)
    pending_call = world.submit(session.generate(run, collecting(values)))
    for event in before:
        getattr(world, event)()
    world.core.multiplexer.abandon(pending_call)
    taken = min(taken, len(values))
    cut = world.submit(session.cut_short(run, taken))
    for event in after:
        getattr(world, event)()
    world.settle()
    cut.future.result(0)
    consumed = [value for value in values[:taken] if value != END]
    assert session.remote.position == 1 + len(consumed)
    last = world.submit(session.step(np.int64(1)))
    world.settle()
    assert last.future.result(0) == 5 + sum(consumed) + 1
