"""Rows of session requests: which may run, from which state, and what becomes of them.

Not when they run (scheduler) nor how (engine). A row that is refused, or whose run fails, changes nothing and
leaves the other rows alone; a row that repeats its session's last request is answered and changes nothing
either.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import (
    Array,
    Cells,
    Handles,
    RowFailure,
    Slots,
    StepBatch,
    StepResult,
    model_fault,
)
from statewise.service.inputs import invalid_rows
from statewise.service.session_state import SessionTable, StateArena, digest_rows
from statewise.service.telemetry import fields
from statewise.wire import DTYPES, ModelSpec, Reason

_log = logging.getLogger(__name__)

_SESSIONS_NAMED = 10  # in one line of the log


@dataclass(frozen=True, slots=True)
class GatheredBatch:
    """Frames that are run as one request, and the sessions that their rows name."""

    frames: list[StepBatch]
    handles: Handles
    slots: Slots
    cells: Cells


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """The rows of one or more frames that may run, as columns.

    Attributes:
        frames: Where the rows came from, in order.
        total: Rows of all the frames.
        rows: Which of them may run; None: all.
        slots: Their sessions.
        cells: What the table holds of them.
        steps: Their time steps; None: 1 each.
        inputs: Their inputs, laid out as in a frame.
        digests: Of their inputs.
        retry: Which of them repeat their session's last request; None: none.
        failures: Every other row, and rows that fail later.
    """

    frames: list[StepBatch]
    total: int
    rows: NDArray[np.intp] | None
    slots: Slots
    cells: Cells
    steps: NDArray[np.uint32] | None
    inputs: list[Array]
    digests: NDArray[np.uint64]
    retry: NDArray[np.bool_] | None
    failures: dict[int, RowFailure]


class StepExecution:
    """Admits and settles the rows of one model version.

    Args:
        spec: The model's.
        arena: Holds the sessions' states.
        table: Holds the sessions.
        answer: Answers a frame.
    """

    def __init__(
        self,
        spec: ModelSpec,
        arena: StateArena,
        table: SessionTable,
        *,
        answer: Callable[[StepBatch, StepResult], None],
    ) -> None:
        self._spec = spec
        self._arena = arena
        self._table = table
        self._answer = answer
        self._per_step = [entry.per_step for entry in spec.inputs]
        self._output_names = [entry.name for entry in spec.outputs]

    def select(self, frames: list[StepBatch]) -> GatheredBatch:
        """Frames as one request."""
        handles = frames[0].handles if len(frames) == 1 else np.concatenate([f.handles for f in frames])
        slots = self._table.slots_of(handles)
        return GatheredBatch(frames, handles, slots, self._table.read(slots))

    def admit(self, selected: GatheredBatch) -> PreparedBatch:
        """Judges every row: its handle, its position, its values. Frames of chunks come one at a time."""
        frames, handles, slots, cells = selected.frames, selected.handles, selected.slots, selected.cells
        first = frames[0]
        alone = len(frames) == 1
        positions = first.positions if alone else np.concatenate([frame.positions for frame in frames])
        inputs = (
            first.inputs
            if alone
            else [np.concatenate(arrays) for arrays in zip(*(frame.inputs for frame in frames), strict=True)]
        )
        steps = first.steps
        owner: NDArray[np.int64] | int = first.owner
        if not alone and any(frame.owner != first.owner for frame in frames):
            owner = np.repeat([frame.owner for frame in frames], [len(frame.handles) for frame in frames])
        digests = digest_rows(inputs, per_step=self._per_step, steps=steps)
        admission = self._table.classify(
            cells, handles, owner, positions, 1 if steps is None else steps, digests
        )
        invalid = invalid_rows(self._spec, inputs, steps)
        if admission.good is None and not invalid:
            return PreparedBatch(
                frames, len(handles), None, slots, cells, steps, inputs, digests, admission.retry, {}
            )
        good = np.ones(len(handles), np.bool_) if admission.good is None else admission.good.copy()
        failures = {
            row: self._table.explain(row, int(handles[row]), int(positions[row]), owner=_at(owner, row))
            for row in np.flatnonzero(~good).tolist()
        }
        for row, message in invalid.items():
            failures.setdefault(row, RowFailure(row, Reason.BAD_TENSOR, message))
        good[list(invalid)] = False
        rows = np.flatnonzero(good)
        by_step = rows if steps is None else np.flatnonzero(np.repeat(good, steps))
        return PreparedBatch(
            frames,
            len(handles),
            rows,
            slots[rows],
            cells[rows],
            None if steps is None else steps[rows],
            [
                array[by_step if per_step else rows]
                for array, per_step in zip(inputs, self._per_step, strict=True)
            ],
            digests[rows],
            None if admission.retry is None else admission.retry[rows],
            failures,
        )

    def state_of(self, admitted: PreparedBatch) -> list[Array]:
        """The states that the rows run from, [rows, ...] for each state pair."""
        return self._arena.gather(self._table.arena_indices(admitted.cells, admitted.retry))

    def settle(
        self, admitted: PreparedBatch, outputs: list[Array], state: Sequence[Array], failed: Sequence[int]
    ) -> None:
        """Makes the new states current and answers the frames.

        Args:
            admitted: What ran.
            outputs: Of the rows that ran well, laid out as in a frame.
            state: Of all rows that ran.
            failed: Rows, of those that ran, whose run failed.
        """
        for row in failed:
            number = row if admitted.rows is None else int(admitted.rows[row])
            admitted.failures[number] = model_fault(number)
        if failed:
            sessions = [
                self._table.view(slot).session_id
                for slot in admitted.slots[failed[:_SESSIONS_NAMED]].tolist()
            ]
            _log.error("the model failed on rows of sessions", extra=fields(session_ids=sessions))
        slots, cells, steps, digests = admitted.slots, admitted.cells, admitted.steps, admitted.digests
        if failed or admitted.retry is not None:
            self._table.touch(slots)
            new = np.ones(len(slots), np.bool_) if admitted.retry is None else ~admitted.retry
            new[failed] = False
            slots, cells, digests = slots[new], cells[new], digests[new]
            steps = None if steps is None else steps[new]
            state = [array[new] for array in state]
        self._arena.scatter(self._table.next_arena_indices(cells), state)
        self._table.advance(slots, cells, 1 if steps is None else steps, digests)
        self._reply(admitted, outputs)

    def refuse(self, admitted: PreparedBatch) -> None:
        """Answers frames of which no row may run."""
        nothing = [np.empty((0, *entry.shape), DTYPES[entry.dtype]) for entry in self._spec.outputs]
        self._reply(admitted, nothing)

    def _reply(self, admitted: PreparedBatch, outputs: list[Array]) -> None:
        """Deals outputs and failures back to the frames."""
        frames, failures, names = admitted.frames, admitted.failures, self._output_names
        if len(frames) == 1:
            ordered = [failures[row] for row in sorted(failures)] if failures else ()
            self._answer(frames[0], StepResult(self._named(outputs), ordered))
            return
        if not failures:
            begin = 0
            for frame in frames:
                end = begin + len(frame.handles)
                dealt = {name: array[begin:end] for name, array in zip(names, outputs, strict=True)}
                self._answer(frame, StepResult(dealt, ()))
                begin = end
            return
        succeeded = np.ones(admitted.total, np.bool_)
        succeeded[list(failures)] = False
        place = np.concatenate([[0], np.cumsum(succeeded)])
        begin = 0
        for frame in frames:
            end = begin + len(frame.handles)
            own = [replace(failures[row], row=row - begin) for row in range(begin, end) if row in failures]
            kept = [array[place[begin] : place[end]] for array in outputs]
            self._answer(frame, StepResult(self._named(kept), own))
            begin = end

    def _named(self, outputs: Sequence[Array]) -> dict[str, Array]:
        return dict(zip(self._output_names, outputs, strict=True))


def _at(owner: NDArray[np.integer] | int, row: int) -> int:
    return owner if isinstance(owner, int) else int(owner[row])
