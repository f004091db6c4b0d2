"""Keeps step batches and barriers until they may begin, in the order they came.

Runs no steps (the step runner does). Items of one session leave in order, and none while a run holds the
session; items of different sessions may overtake each other.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from statewise.service.base import Barrier, Slots, StepBatch, abandoned
from statewise.service.scheduling._step_answers import StepAnswers
from statewise.service.scheduling._step_execution import GatheredBatch, StepExecution
from statewise.service.session_state import SessionTable

MAXIMUM_BATCH_ROWS = 1024
"""Rows of one run. More do not make a row cheaper, and make every caller wait longer."""
_LOOK_AGAIN_S = 0.05
"""Pause between two looks at batches that wait for sessions which are running, where none has ended."""


class TakenSteps(NamedTuple):
    """The batches and barriers that may begin now.

    Attributes:
        single: Batches of single steps, for one run; None: there are none.
        chunks: Batches of many steps a row, each to be run as a job.
        again: Whether to look again at the next turn: what still waits may have waited for what has left.
    """

    single: GatheredBatch | None
    chunks: list[StepBatch]
    again: bool


class StepQueue:
    """Step batches and barriers of one model version.

    Args:
        table: Holds the sessions.
        execution: Gathers batches.
        answers: Answers batches that no caller waits for any more.
        clock: Seconds, monotonic; deadlines are on it.
    """

    def __init__(
        self,
        table: SessionTable,
        execution: StepExecution,
        answers: StepAnswers,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._execution = execution
        self._answers = answers
        self._clock = clock
        self._waiting: deque[StepBatch | Barrier] = deque()
        self._only_single_steps = True
        self._look_again_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: StepBatch | Barrier) -> None:
        """Takes a batch or a barrier."""
        self._only_single_steps &= isinstance(item, StepBatch) and item.steps is None
        self._waiting.append(item)
        self._look_again_s = 0.0

    def sessions_freed(self) -> None:
        """Notes that sessions are no longer busy: what waits for them may begin."""
        self._look_again_s = 0.0

    def sessions(self) -> Slots:
        """Returns the slots that what waits here is for, valid or not."""
        handles = [item.handles for item in self._waiting if isinstance(item, StepBatch)]
        barriers = [item.slots for item in self._waiting if isinstance(item, Barrier)]
        stepped = self._table.slots_of(np.concatenate(handles)) if handles else np.empty(0, np.intp)
        return np.concatenate([stepped, *barriers])

    def only_step(self, now_s: float) -> StepBatch | None:
        """Returns the only waiting batch if it is one step of one session and its caller still waits."""
        if len(self._waiting) != 1 or not self._only_single_steps:
            return None
        batch = self._waiting[0]
        assert isinstance(batch, StepBatch)
        if len(batch.handles) > 1 or abandoned(batch.cancelled, batch.deadline_s, now_s):
            return None
        return batch

    def remove_only_step(self) -> None:
        """Takes out the batch that `only_step` gave."""
        self._waiting.clear()

    def take(self) -> TakenSteps:
        """Takes out what may begin. Runs barriers, and answers batches that no caller waits for any more."""
        if self._look_again_s and self._clock() < self._look_again_s:
            return TakenSteps(None, [], again=False)
        before = len(self._waiting)
        single = self._take_in_order() if self._only_single_steps else None
        chunks: list[StepBatch] = []
        if single is None:
            single, chunks = self._take_out_of_order()
        again = 0 < len(self._waiting) < before
        if self._waiting and not again:
            # All items wait for runs, and the end of a run reports freed sessions. Every slice of a job plans
            # a turn, so looking through thousands of items at each turn would cost too much.
            self._look_again_s = self._clock() + _LOOK_AGAIN_S
        return TakenSteps(single, chunks, again)

    def _take_in_order(self) -> GatheredBatch | None:
        """Takes out all in the usual case: single steps, each session once, none running. Else None."""
        rows = 0
        batches: list[StepBatch] = []
        now_s = self._clock()
        for item in self._waiting:
            assert isinstance(item, StepBatch)
            if item.cancelled or (item.deadline_s is not None and item.deadline_s < now_s):
                return None
            if rows + len(item.handles) > MAXIMUM_BATCH_ROWS and rows > 0:
                break
            batches.append(item)
            rows += len(item.handles)
        gathered = self._execution.gather(batches)
        if len(batches) > 1 and self._table.has_repeats(gathered.slots):
            return None
        if self._table.any_busy(gathered.cells):
            return None
        for _ in batches:
            self._waiting.popleft()
        return gathered

    def _take_out_of_order(self) -> tuple[GatheredBatch | None, list[StepBatch]]:
        waiting, self._waiting = self._waiting, deque()
        taken: set[int] = set()
        single: list[StepBatch] = []
        chunks: list[StepBatch] = []
        rows = 0
        self._only_single_steps = True
        for item in waiting:
            if isinstance(item, StepBatch):
                failure = abandoned(item.cancelled, item.deadline_s, self._clock())
                if failure is not None:
                    self._answers.answer(item, failure)
                    continue
            # A void handle must not make the session that now has its slot wait.
            slots = (
                item.slots
                if isinstance(item, Barrier)
                else self._table.valid_slots(item.handles, owner=item.owner)
            )
            numbers = slots.tolist()
            blocked = not taken.isdisjoint(numbers) or bool(self._table.busy[slots].any())
            taken.update(numbers)
            width = 0 if isinstance(item, Barrier) else len(item.handles)
            full = width > 0 and rows > 0 and rows + width > MAXIMUM_BATCH_ROWS
            if blocked or full:
                self._waiting.append(item)
                self._only_single_steps &= isinstance(item, StepBatch) and item.steps is None
            elif isinstance(item, Barrier):
                taken.difference_update(numbers)
                item.action()
            elif item.steps is not None:
                chunks.append(item)
            else:
                single.append(item)
                rows += width
        return self._execution.gather(single) if single else None, chunks
