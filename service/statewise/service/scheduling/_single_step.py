"""A single step of a single session that nobody shares a run with: the usual frame of a quiet server.

The same as a batch of one (admission, runner), in scalars instead of columns: what a lone step costs is
mostly the number of array operations around the engine. Only the plain case is decided here. Whatever is
unusual about a frame (a retry, a void handle, a NaN, a run that fails) is left to the batch path, and nothing
has changed by then.
"""

import numpy as np

from statewise.service.base import StepBatch, StepResult
from statewise.service.engine import Engine, EngineError
from statewise.service.inputs import all_valid
from statewise.service.session_state import SessionTable, StateArena, digest_rows

_ONE_STEP = np.ones(1, np.int32)


class SingleStep:
    """Runs lone steps of one model version.

    Args:
        engine: Runs them.
        arena: Holds the sessions' states.
        table: Holds the sessions.
    """

    def __init__(self, engine: Engine, arena: StateArena, table: SessionTable) -> None:
        self._engine = engine
        self._arena = arena
        self._table = table
        self._inputs_by_step = [entry.per_step for entry in engine.spec.inputs]
        self._outputs = [(entry.name, entry.per_step) for entry in engine.spec.outputs]

    def run(self, frame: StepBatch) -> StepResult | None:
        """Applies a frame of one row and one step; None: it has to take the batch path."""
        inputs = frame.inputs
        slot = self._table.admit_one(int(frame.handles[0]), frame.owner, int(frame.positions[0]))
        if slot is None or not all_valid(self._engine.spec, inputs):
            return None
        place = self._table.arena_index(slot)
        try:
            outputs, state = self._engine.run(
                [
                    array[None] if by_step else array
                    for array, by_step in zip(inputs, self._inputs_by_step, strict=True)
                ],
                _ONE_STEP,
                self._arena.view_at(place),
            )
        except EngineError:
            return None
        self._arena.write(place ^ 1, state)
        self._table.advance_one(slot, int(digest_rows(inputs, per_step=self._inputs_by_step, steps=None)[0]))
        return StepResult(
            {
                name: array[0] if by_step else array
                for (name, by_step), array in zip(self._outputs, outputs, strict=True)
            },
            (),
        )
