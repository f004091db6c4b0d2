"""Prepares the rows of step batches for a run, and commits what the run gave.

Decides neither when rows run (the step runner does) nor how (the engine does). A row that is refused, or
whose run fails, changes nothing and leaves the other rows alone; a row that repeats its session's last
request is answered and changes nothing either.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import (
    Array,
    Cells,
    Handles,
    Indices,
    RaggedColumns,
    RowFailure,
    Slots,
    StepBatch,
    StepResult,
)
from statewise.service.inputs import explain_fault, invalid_rows
from statewise.service.scheduling._step_answers import StepAnswers
from statewise.service.session_state import SessionTable, StateArena, digest_rows
from statewise.service.session_state.kept_states import KeptStates
from statewise.service.telemetry import ModelStatistics, fields
from statewise.wire import ModelSpec, Reason

_log = logging.getLogger(__name__)

_SESSIONS_NAMED = 10  # in one line of the log


@dataclass(frozen=True, slots=True)
class GatheredBatch:
    """Step batches that run as one, and the sessions that their rows name."""

    batches: list[StepBatch]
    handles: Handles
    slots: Slots
    cells: Cells


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """The rows of gathered batches that may run, as columns.

    Attributes:
        batches: Where the rows came from, in order.
        total: Rows of all the batches.
        rows: Which of them may run; None: all.
        slots: Their sessions.
        cells: The table's record of each.
        steps: Their time steps; None: 1 each.
        inputs: Their inputs, laid out as in a step batch.
        digests: Of their inputs.
        retry: Which of them repeat their session's last request; None: none.
        failures: Every other row, and rows that fail later.
    """

    batches: list[StepBatch]
    total: int
    rows: Indices | None
    slots: Slots
    cells: Cells
    steps: NDArray[np.uint32] | None
    inputs: Sequence[Array]
    digests: NDArray[np.uint64]
    retry: NDArray[np.bool_] | None
    failures: dict[int, RowFailure]


class StepExecution:
    """Prepares and commits the rows of one model version.

    Args:
        spec: The model's.
        arena: Holds the sessions' states.
        table: Holds the sessions.
        kept: Makes new states current.
        answers: Answers step batches.
        statistics: Statistics of the model version.
    """

    def __init__(
        self,
        spec: ModelSpec,
        arena: StateArena,
        table: SessionTable,
        *,
        kept: KeptStates,
        answers: StepAnswers,
        statistics: ModelStatistics,
    ) -> None:
        self._spec = spec
        self._arena = arena
        self._table = table
        self._kept = kept
        self._answers = answers
        self._statistics = statistics
        self._per_step = [entry.per_step for entry in spec.inputs]
        self._output_names = [entry.name for entry in spec.outputs]

    def gather(self, batches: list[StepBatch]) -> GatheredBatch:
        """Joins step batches to one."""
        handles = batches[0].handles if len(batches) == 1 else np.concatenate([b.handles for b in batches])
        slots = self._table.slots_of(handles)
        return GatheredBatch(batches, handles, slots, self._table.read(slots))

    def prepare(self, gathered: GatheredBatch) -> PreparedBatch:
        """Finds the rows that may run, by handle, position and values. A batch of chunks comes alone."""
        batches, handles, slots, cells = gathered.batches, gathered.handles, gathered.slots, gathered.cells
        first = batches[0]
        alone = len(batches) == 1
        positions = first.positions if alone else np.concatenate([batch.positions for batch in batches])
        inputs: Sequence[Array] = (
            first.inputs
            if alone
            else [np.concatenate(arrays) for arrays in zip(*(batch.inputs for batch in batches), strict=True)]
        )
        steps = first.steps
        owner: NDArray[np.int64] | int = first.owner
        if not alone and any(batch.owner != first.owner for batch in batches):
            owner = np.repeat([batch.owner for batch in batches], [len(batch.handles) for batch in batches])
        digests = digest_rows(inputs, per_step=self._per_step, steps=steps)
        verdicts = self._table.classify(
            cells, handles, owner, positions, 1 if steps is None else steps, digests
        )
        retry = verdicts.retry
        invalid = invalid_rows(self._spec, inputs, steps)
        total, rows = len(handles), None
        failures: dict[int, RowFailure] = {}
        if verdicts.good is not None or invalid:
            for row in [] if verdicts.good is None else np.flatnonzero(~verdicts.good).tolist():
                handle, position = int(handles[row]), int(positions[row])
                failures[row] = self._table.explain(row, handle, position, owner=_at(owner, row))
            for row, message in invalid.items():
                failures.setdefault(row, RowFailure(row, Reason.BAD_TENSOR, message))
            rows = np.delete(np.arange(total), list(failures))
            slots, cells, digests = slots[rows], cells[rows], digests[rows]
            inputs = RaggedColumns(self._spec.inputs, inputs, steps).take(rows).arrays
            steps = None if steps is None else steps[rows]
            retry = None if retry is None else retry[rows]
        if retry is not None:
            self._statistics.retried_rows += int(np.count_nonzero(retry))
        return PreparedBatch(batches, total, rows, slots, cells, steps, inputs, digests, retry, failures)

    def state_of(self, prepared: PreparedBatch) -> list[Array]:
        """Returns the states that the rows run from, [rows, ...] for each state pair."""
        return self._arena.gather(self._table.arena_indices(prepared.cells, prepared.retry))

    def commit(
        self,
        prepared: PreparedBatch,
        outputs: Sequence[Array],
        state: Sequence[Array],
        failed: Sequence[int],
    ) -> None:
        """Makes the new states current and answers the step batches.

        Args:
            prepared: What ran.
            outputs: Outputs of all rows that ran, laid out as in a step batch.
            state: Of all rows that ran.
            failed: Rows, of those that ran, whose run failed.
        """
        slots, cells, steps, digests = prepared.slots, prepared.cells, prepared.steps, prepared.digests
        if failed:
            self._note_failures(prepared, failed)
            well = np.delete(np.arange(len(slots)), failed)
            columns = RaggedColumns(self._spec.outputs, outputs, steps).take(well)
            outputs = columns.arrays
            self._note_nonfinite(columns, slots[well])
        else:
            self._note_nonfinite(RaggedColumns(self._spec.outputs, outputs, steps), slots)
        if failed or prepared.retry is not None:
            self._table.touch(slots)
            new = np.ones(len(slots), np.bool_) if prepared.retry is None else ~prepared.retry
            new[failed] = False
            slots, cells, digests = slots[new], cells[new], digests[new]
            steps = None if steps is None else steps[new]
            state = [array[new] for array in state]
        self._kept.commit(slots, cells, state, 1 if steps is None else steps, digests)
        self._answer(prepared, outputs, self._durable_positions(prepared, failed))

    def _durable_positions(self, prepared: PreparedBatch, failed: Sequence[int]) -> NDArray[np.uint64] | None:
        """Returns up to which positions the sessions of the rows that ran well are stored; None: no store."""
        if self._table.changed is None:
            return None
        return self._table.durable_positions(np.delete(prepared.slots, failed) if failed else prepared.slots)

    def _note_failures(self, prepared: PreparedBatch, failed: Sequence[int]) -> None:
        columns = RaggedColumns(self._spec.inputs, prepared.inputs, prepared.steps)
        for row in failed:
            number = row if prepared.rows is None else int(prepared.rows[row])
            prepared.failures[number] = explain_fault(columns, row, number)
        sessions = [
            self._table.view(slot).session_id for slot in prepared.slots[failed[:_SESSIONS_NAMED]].tolist()
        ]
        _log.error("the model failed on rows of sessions", extra=fields(session_ids=sessions))

    def _note_nonfinite(self, outputs: RaggedColumns, slots: Slots) -> None:
        """Counts and logs sessions whose outputs are not finite: their states probably are not, either."""
        rows = outputs.nonfinite_rows()
        if len(rows) and self._statistics.count_nonfinite(len(rows)):
            sessions = [self._table.view(slot).session_id for slot in slots[rows[:_SESSIONS_NAMED]].tolist()]
            _log.warning(
                "the model gives sessions numbers that are not finite", extra=fields(session_ids=sessions)
            )

    def refuse(self, prepared: PreparedBatch) -> None:
        """Answers step batches of which no row may run."""
        nothing = RaggedColumns.blank(self._spec.outputs, np.empty(0, np.uint32))
        self._answer(prepared, nothing.arrays, None)

    def _answer(
        self, prepared: PreparedBatch, outputs: Sequence[Array], durable: NDArray[np.uint64] | None
    ) -> None:
        """Gives every step batch its own outputs and failures."""
        batches, failures, names = prepared.batches, prepared.failures, self._output_names
        if len(batches) == 1:
            ordered = [failures[row] for row in sorted(failures)] if failures else ()
            self._answers.answer(batches[0], StepResult(self._named(outputs), ordered, durable))
            return
        if not failures:
            begin = 0
            for batch in batches:
                end = begin + len(batch.handles)
                own_outputs = {name: array[begin:end] for name, array in zip(names, outputs, strict=True)}
                own_durable = None if durable is None else durable[begin:end]
                self._answers.answer(batch, StepResult(own_outputs, (), own_durable))
                begin = end
            return
        succeeded = np.ones(prepared.total, np.bool_)
        succeeded[list(failures)] = False
        kept_before = np.concatenate([[0], np.cumsum(succeeded)])
        begin = 0
        for batch in batches:
            end = begin + len(batch.handles)
            own = [replace(failures[row], row=row - begin) for row in range(begin, end) if row in failures]
            here = slice(kept_before[begin], kept_before[end])
            own_durable = None if durable is None else durable[here]
            kept = self._named([array[here] for array in outputs])
            self._answers.answer(batch, StepResult(kept, own, own_durable))
            begin = end

    def _named(self, outputs: Sequence[Array]) -> dict[str, Array]:
        return dict(zip(self._output_names, outputs, strict=True))


def _at(owner: NDArray[np.integer] | int, row: int) -> int:
    return owner if isinstance(owner, int) else int(owner[row])
