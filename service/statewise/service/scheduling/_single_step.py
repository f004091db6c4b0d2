"""Runs one step of one session alone: the usual request of a quiet server.

Does what the batch path does for a batch of one (step execution, run_batch), in scalars instead of columns,
because array operations around the engine are most of such a step's cost. Handles only the ordinary
case: a retry, an invalid handle, a NaN in or out, or a run that fails is left to the batch path, before
anything has changed.
"""

import numpy as np

from statewise.service.base import StepBatch, StepResult
from statewise.service.engine import Engine, EngineError
from statewise.service.inputs import all_valid
from statewise.service.session_state import SessionTable, StateArena, digest_rows
from statewise.service.session_state.kept_states import KeptStates

_ONE_STEP = np.ones(1, np.int32)


class SingleStep:
    """Runs single steps of one model version.

    Args:
        engine: Runs them.
        arena: Holds the sessions' states.
        table: Holds the sessions.
        kept: Makes new states current.
    """

    def __init__(self, engine: Engine, arena: StateArena, table: SessionTable, kept: KeptStates) -> None:
        self._engine = engine
        self._arena = arena
        self._table = table
        self._kept = kept
        self._inputs_per_step = [entry.per_step for entry in engine.spec.inputs]
        self._outputs = [(entry.name, entry.per_step) for entry in engine.spec.outputs]

    def run(self, batch: StepBatch) -> StepResult | None:
        """Applies a batch of one row and one step; None: it has to take the batch path."""
        inputs = batch.inputs
        slot = self._table.ready_slot(int(batch.handles[0]), batch.owner, int(batch.positions[0]))
        if slot is None or not all_valid(self._engine.spec, inputs):
            return None
        try:
            outputs, state = self._engine.run(
                [
                    array[None] if per_step else array
                    for array, per_step in zip(inputs, self._inputs_per_step, strict=True)
                ],
                _ONE_STEP,
                self._arena.view_at(self._table.arena_index(slot)),
            )
        except EngineError:
            return None
        if not all(array.dtype.kind != "f" or np.isfinite(array).all() for array in outputs):
            return None
        digest = digest_rows(inputs, per_step=self._inputs_per_step, steps=None)
        self._kept.commit_one(slot, state, int(digest[0]))
        return StepResult(
            {
                name: array[0] if per_step else array
                for (name, per_step), array in zip(self._outputs, outputs, strict=True)
            },
            (),
            None if self._table.changed is None else self._table.durable_positions(np.array([slot])),
        )
