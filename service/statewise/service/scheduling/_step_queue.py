"""What waits to begin: frames of steps, and operations on sessions that keep their place among them.

Not what runs (scheduler). Whatever concerns one session leaves in the order it came, and not before what it
waits for has ended; what concerns different sessions may overtake.
"""

from collections import deque
from collections.abc import Callable

from statewise.service.base import Barrier, ServiceError, StepBatch, given_up
from statewise.service.scheduling._step_execution import GatheredBatch, StepExecution
from statewise.service.session_state import SessionTable

MAXIMUM_BATCH_ROWS = 1024
"""Rows of one run. More do not make a row cheaper, and make everybody wait longer."""
_LOOK_AGAIN_S = 0.05
"""Pause between two looks at requests that wait for sessions which are running, where none has ended."""


class StepQueue:
    """Frames and controls of one model version, in the order they came.

    Args:
        table: Holds the sessions.
        admission: Makes frames one request.
        clock: Seconds, monotonic; deadlines are on it.
        start: Begins a frame of chunks, whose sessions are busy from then on.
        refuse: Answers a frame that is given up.
    """

    def __init__(
        self,
        table: SessionTable,
        admission: StepExecution,
        *,
        clock: Callable[[], float],
        start: Callable[[StepBatch], None],
        refuse: Callable[[StepBatch, ServiceError], None],
    ) -> None:
        self._table = table
        self._admission = admission
        self._clock = clock
        self._start = start
        self._refuse = refuse
        self._waiting: deque[StepBatch | Barrier] = deque()
        self._only_single_steps = True
        self._look_again_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: StepBatch | Barrier) -> None:
        """Takes what is to begin."""
        self._only_single_steps &= isinstance(item, StepBatch) and item.steps is None
        self._waiting.append(item)
        self._look_again_s = 0.0

    def sessions_freed(self) -> None:
        """Notes that sessions are no longer busy: what waits for them may begin."""
        self._look_again_s = 0.0

    def lone_step(self, now_s: float) -> StepBatch | None:
        """The frame that waits, where it is the only one, of one session and one step, and still wanted."""
        if len(self._waiting) != 1 or not self._only_single_steps:
            return None
        frame = self._waiting[0]
        assert isinstance(frame, StepBatch)
        if len(frame.handles) > 1 or given_up(frame.cancelled, frame.deadline_s, now_s):
            return None
        return frame

    def remove_lone_step(self) -> None:
        """Takes out what `lone_step` gave."""
        self._waiting.clear()

    def take(self) -> tuple[GatheredBatch | None, bool]:
        """Frames of single steps for one run, or None; on the way starts what else may begin.

        Also says whether to look again at the next turn: what still waits may have waited for what has gone.
        """
        if self._look_again_s and self._clock() < self._look_again_s:
            return None, False
        before = len(self._waiting)
        selected = self._take_in_order() if self._only_single_steps else None
        if selected is None:
            selected = self._take_what_may_begin()
        again = 0 < len(self._waiting) < before
        if self._waiting and not again:
            # It waits for a run, whose end says so. Thousands may wait, and every piece plans a turn.
            self._look_again_s = self._clock() + _LOOK_AGAIN_S
        return selected, again

    def _take_in_order(self) -> GatheredBatch | None:
        """The usual case: single steps, each session once, none running. None: it is not that case."""
        rows = 0
        frames: list[StepBatch] = []
        now_s = self._clock()
        for item in self._waiting:
            assert isinstance(item, StepBatch)
            if item.cancelled or (item.deadline_s is not None and item.deadline_s < now_s):
                return None
            if rows + len(item.handles) > MAXIMUM_BATCH_ROWS and rows > 0:
                break
            frames.append(item)
            rows += len(item.handles)
        selected = self._admission.select(frames)
        if len(frames) > 1 and self._table.has_repeats(selected.slots):
            return None
        if self._table.any_busy(selected.cells):
            return None
        for _ in frames:
            self._waiting.popleft()
        return selected

    def _take_what_may_begin(self) -> GatheredBatch | None:
        waiting, self._waiting = self._waiting, deque()
        taken: set[int] = set()
        selected: list[StepBatch] = []
        rows = 0
        self._only_single_steps = True
        for item in waiting:
            if isinstance(item, StepBatch):
                failure = given_up(item.cancelled, item.deadline_s, self._clock())
                if failure is not None:
                    self._refuse(item, failure)
                    continue
            places = item.slots if isinstance(item, Barrier) else self._table.slots_of(item.handles)
            slots = places.tolist()
            blocked = not taken.isdisjoint(slots) or bool(self._table.busy[places].any())
            taken.update(slots)
            full = isinstance(item, StepBatch) and rows + len(slots) > MAXIMUM_BATCH_ROWS and rows > 0
            if blocked or full:
                self._waiting.append(item)
                self._only_single_steps &= isinstance(item, StepBatch) and item.steps is None
            elif isinstance(item, Barrier):
                taken.difference_update(slots)
                item.action()
            elif item.steps is not None:
                self._start(item)
            else:
                selected.append(item)
                rows += len(slots)
        return self._admission.select(selected) if selected else None
