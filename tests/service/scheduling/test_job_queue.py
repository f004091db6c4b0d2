"""Runs a queue of jobs on a clock: short ones before long ones, otherwise in order, and all of them."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.service.base import RaggedColumns
from statewise.service.engine import EngineProfile
from statewise.service.scheduling import Job, SequenceJob
from statewise.service.scheduling.jobs._job_queue import JobQueue
from statewise.wire import CallShape, Exactness, ModelSpec, StatePair, TensorSpec

SPEC = ModelSpec(
    inputs=(TensorSpec("x", "float32", (1,)),),
    outputs=(TensorSpec("y", "float32", (1,)),),
    state=(StatePair("s", "t", "float32", (1,)),),
    call_shapes=(CallShape.MANY_TO_MANY,),
    lengths="lengths",
)
STEP_S = 1e-6
SLICE_S = 100 * STEP_S  # a hundred steps of one row


@dataclass
class Machine:
    """A job queue, and a clock that each slice moves on by its cost."""

    now_s: float = 1000.0
    ended: list[int] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    slices: list[tuple[list[int], int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        profile = EngineProfile(
            Exactness.EXACT, stepwise=True, chunkable=True, run_s=STEP_S, row_step_s=STEP_S, batchable=True
        )
        self.queue = JobQueue(profile, mixes=True, clock=lambda: self.now_s, slice_s=SLICE_S)
        self._numbers: dict[Job, int] = {}
        self.cancelled: set[int] = set()

    def add(self, number: int, *lengths: int, deadline_s: float | None = None) -> None:
        """Adds a job with rows of these lengths."""
        steps = np.array(lengths, np.uint32)
        job = SequenceJob(
            SPEC,
            RaggedColumns(SPEC.inputs, [np.zeros((sum(lengths), 1), np.float32)], steps),
            state=[np.zeros((len(lengths), 1), np.float32)],
            done=lambda *_: None,
            is_cancelled=lambda: number in self.cancelled,
            deadline_s=deadline_s,
        )
        job.received_s = self.now_s
        self._numbers[job] = number
        self.queue.add(job)

    def run_slice(self) -> bool:
        """Runs the next slice; False: there was none."""
        chosen, dropped = self.queue.next_slice()
        self.dropped += [(self._numbers[job], failure.reason.value) for job, failure in dropped]
        if chosen is None:
            return False
        begun_s = self.now_s
        self.slices.append(([self._numbers[member.job] for member in chosen.members], chosen.steps))
        self.now_s += chosen.rows * chosen.steps * STEP_S
        for member in chosen.members:
            assert isinstance(member.job, SequenceJob)
            zeros = np.zeros((chosen.steps, member.rows, 1), np.float32)
            member.job.absorb(chosen.steps, member.rows, [zeros], [zeros[0]], [])
        self.ended += [self._numbers[job] for job in self.queue.end_slice(chosen, begun_s=begun_s)]
        return True

    def run(self) -> None:
        """Runs slices until the queue is empty."""
        while self.run_slice():
            pass


def test_jobs_of_one_size_end_in_the_order_they_came() -> None:
    machine = Machine()
    for number in range(100):
        machine.add(number, 2_000)
    begun_s = machine.now_s
    while not machine.ended:
        machine.run_slice()
    assert machine.now_s - begun_s < 20 * 2_000 * STEP_S  # the first one does not wait for the others
    machine.run()
    assert machine.ended == sorted(machine.ended)


@pytest.mark.long
def test_short_work_overtakes_long_and_long_work_is_not_forgotten() -> None:
    machine = Machine()
    machine.add(0, *[1_000] * 64)
    machine.run_slice()
    machine.add(1, 5)
    machine.run_slice()
    assert machine.ended == [1]
    for number in range(2, 5_000):  # twice what the machine can do
        machine.add(number, *[50] * 8)
        machine.run_slice()
        machine.run_slice()
        if 0 in machine.ended:
            break
    machine.run()
    assert machine.ended.index(0) < len(machine.ended) - 100


def test_a_slice_takes_no_more_jobs_than_make_it_cheaper() -> None:
    machine = Machine()
    for number in range(100):
        machine.add(number, 2_000)
    machine.run_slice()
    jobs, steps = machine.slices[0]
    assert (len(jobs), steps) == (6, 16)
    short = Machine()
    for number in range(100):
        short.add(number, 1)
    short.run_slice()
    assert len(short.slices[0][0]) > 50


@pytest.mark.parametrize("sweep", [False, True], ids=["met on the way", "swept out"])
def test_what_nobody_waits_for_is_not_run(sweep: bool) -> None:
    machine = Machine()
    machine.add(0, 500)
    machine.add(1, 500, deadline_s=machine.now_s + 1)
    machine.add(2, 500)
    machine.now_s += 2
    machine.cancelled.add(0)
    if sweep:
        assert [failure.reason.value for _, failure in machine.queue.drop_abandoned()] == [
            "CANCELLED",
            "DEADLINE",
        ]
        assert machine.queue.wait_s == pytest.approx(500 * STEP_S)
    machine.run()
    assert machine.ended == [2]
    assert machine.dropped == ([] if sweep else [(0, "CANCELLED"), (1, "DEADLINE")])
    assert {number for numbers, _ in machine.slices for number in numbers} == {2}
    assert machine.queue.wait_s == 0


def test_waiting_is_judged_by_what_slices_took() -> None:
    machine = Machine()
    machine.add(0, 100_000)
    assert machine.queue.wait_s == pytest.approx(100_000 * STEP_S)
    for _ in range(200):
        machine.now_s += 3 * SLICE_S  # another process has the machine
        machine.run_slice()
    assert machine.queue.wait_s == pytest.approx(4 * 100_000 * STEP_S, rel=0.1)


def test_time_without_work_is_nobodys_cost() -> None:
    machine = Machine()
    for number in range(5):
        machine.add(number, 1_000)
        machine.run()
        machine.now_s += 60
    assert machine.queue.step_s == pytest.approx(STEP_S)


@pytest.mark.parametrize("sweep", [False, True], ids=["met on the way", "swept out"])
def test_time_after_the_last_was_given_up_is_nobodys_cost(sweep: bool) -> None:
    machine = Machine()
    machine.add(0, 1_000)
    machine.run_slice()
    machine.cancelled.add(0)
    if sweep:
        machine.queue.drop_abandoned()
    else:
        machine.run()
    machine.now_s += 60
    machine.add(1, 1_000)
    machine.run()
    assert machine.ended == [1]
    assert machine.queue.step_s == pytest.approx(STEP_S)


def test_one_slice_that_was_held_up_says_little() -> None:
    machine = Machine()
    machine.add(0, 100_000)
    machine.run_slice()
    machine.now_s += 60
    machine.run_slice()
    assert STEP_S < machine.queue.step_s < 1.2 * STEP_S


def test_short_work_says_nothing_about_what_long_work_costs() -> None:
    machine = Machine()
    for number in range(100):
        machine.add(number, 1)
        machine.now_s += 1e-3  # each run has a fixed cost
        machine.run()
    assert machine.queue.step_s == pytest.approx(STEP_S)


@given(st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=300), min_size=1, max_size=12))
def test_every_job_ends_once(jobs: list[list[int]]) -> None:
    machine = Machine()
    for number, lengths in enumerate(jobs):
        machine.add(number, *lengths)
        machine.run_slice()
    machine.run()
    assert sorted(machine.ended) == list(range(len(jobs)))
    assert len(machine.queue) == 0
    assert machine.queue.wait_s == 0
    assert all(steps >= 1 for _, steps in machine.slices)
