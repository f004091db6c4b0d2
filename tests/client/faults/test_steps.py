"""Steps sessions and groups with faults at any moment: no step is lost, applied twice, or left waiting."""

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.faults.world import World

from statewise.client import PartialFailure, Unavailable
from statewise.client.stream import PendingCall

EVENTS = st.sampled_from(
    ["send", "deliver", "cut", "kill", "store", "move", "leave", "wait", "step", "chunk", "abandon"]
)


@given(
    events=st.lists(st.tuples(EVENTS, st.integers(0, 2)), max_size=60),
    retry_for_s=st.sampled_from([0.0, 0.05, 1e9]),
)
@settings(deadline=None, max_examples=400)
def test_sessions_lose_nothing_and_apply_nothing_twice(
    events: list[tuple[str, int]], retry_for_s: float
) -> None:
    world = World(retry_for_s=retry_for_s)
    sessions = [world.session() for _ in range(3)]
    asked: list[list[tuple[PendingCall[Any], int]]] = [[], [], []]
    bits = [0, 0, 0]
    abandoned: set[int] = set()
    for event, chosen in events:
        if event in ("step", "chunk"):
            count = 1 if event == "step" else 3
            values = [1 << (bits[chosen] + place) for place in range(count)]
            bits[chosen] += count
            value = np.array(values[0] if count == 1 else values, np.int64)
            asked[chosen].append((world.submit(sessions[chosen].step(value)), sum(values)))
        elif event == "abandon":
            waiting = [
                pending_call
                for pending_call, _ in asked[chosen]
                if not pending_call.future.done() and id(pending_call) not in abandoned
            ]
            if waiting:
                abandoned.add(id(waiting[-1]))
                world.core.multiplexer.abandon(waiting[-1])
        else:
            getattr(world, event)()
    world.settle()
    world.core.multiplexer.retry_for_s = 1e9
    # A step whose caller left or gave up may be applied or not, but never in part; the position counts it.
    open_ended = abandoned | {
        id(pending_call)
        for pending_call, _ in itertools.chain(*asked)
        if pending_call.future.done() and isinstance(pending_call.future.exception(0), Unavailable)
    }
    for session, pending_calls in zip(sessions, asked, strict=True):
        last = world.submit(session.step(np.int64(1 << 62)))
        world.settle()
        final = int(last.future.result(0)) - (1 << 62)
        position = 0
        for pending_call, added in pending_calls:
            count = added.bit_count()
            if id(pending_call) not in open_ended:
                asked_before = final & ((added & -added) - 1)
                assert np.atleast_1d(pending_call.future.result(0))[-1] == asked_before + added
            applied = final & added
            assert applied in ((0, added) if id(pending_call) in open_ended else (added,))
            position += count if applied else 0
        assert final.bit_length() <= sum(value.bit_count() for _, value in pending_calls)
        assert session.remote.position == position + 1


@given(
    events=st.lists(st.tuples(EVENTS, st.integers(1, 7)), max_size=50),
    retry_for_s=st.sampled_from([0.0, 0.05, 1e9]),
)
@settings(deadline=None, max_examples=300)
def test_groups_lose_nothing_and_apply_nothing_twice(
    events: list[tuple[str, int]], retry_for_s: float
) -> None:
    world = World(retry_for_s=retry_for_s)
    group = world.group(3)
    bit = 0
    asked: list[tuple[PendingCall[Any], Any, int]] = []
    abandoned: set[int] = set()
    for event, mask in events:
        if event in ("step", "chunk"):
            rows = np.flatnonzero([mask & 1, mask & 2, mask & 4])
            count = 1 if event == "step" else 2
            values = np.int64(1) << np.arange(bit, bit + count)
            bit += count
            batch = np.tile(values, (len(rows), 1))
            pending_call = world.submit(group.step(batch[:, 0] if count == 1 else batch, rows))
            asked.append((pending_call, rows, int(values.sum())))
        elif event == "abandon":
            waiting = [id(pending_call) for pending_call, *_ in asked if not pending_call.future.done()]
            for pending_call, *_ in asked:
                if id(pending_call) == next(iter(set(waiting[-1:]) - abandoned), None):
                    abandoned.add(id(pending_call))
                    world.core.multiplexer.abandon(pending_call)
        else:
            getattr(world, event)()
    world.settle()
    world.core.multiplexer.retry_for_s = 1e9
    last = world.submit(group.step(np.full(3, 1 << 62), None))
    world.settle()
    final = last.future.result(0) - (1 << 62)
    for pending_call, rows, value in asked:
        if id(pending_call) in abandoned or isinstance(
            pending_call.future.exception(0), PartialFailure | Unavailable
        ):
            assert set((final[rows] & value).tolist()) <= {0, value}
        else:
            lowest = value & -value
            outputs = pending_call.future.result(0).reshape(len(rows), -1)
            np.testing.assert_array_equal(outputs[:, -1], (final[rows] & (lowest - 1)) + value)
            assert set((final[rows] & value).tolist()) == {value}
    np.testing.assert_array_equal(group.positions, [int(total).bit_count() + 1 for total in final])
