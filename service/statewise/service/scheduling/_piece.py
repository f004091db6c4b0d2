"""A piece of long work: some rows of some jobs, side by side in one run of some time steps.

Only laying out and sharing out; which jobs run, and when, is the scheduler's. While a piece runs, its jobs
are in nobody else's hands, so it may run in any thread.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from statewise.service.base import Array
from statewise.service.engine import Engine, RunResult, run_batch
from statewise.service.scheduling._job import SliceMember

if TYPE_CHECKING:
    from statewise.service.scheduling._sequence_job import SequenceJob


@dataclass(frozen=True, slots=True)
class SequenceSlice:
    """What one run takes of the jobs.

    Attributes:
        parts: Side by side; at least one; of each job its first rows.
        steps: Time steps at most.
    """

    parts: "list[SliceMember[SequenceJob]]"
    steps: int

    @property
    def rows(self) -> int:
        """Rows of the run."""
        last = self.parts[-1]
        return last.begin + last.rows

    def run(self, engine: Engine, *, together: bool) -> RunResult:
        """Runs the piece; `together` says whether rows may share a run."""
        lengths = np.empty(self.rows, np.int32)
        for part in self.parts:
            own = part.job.lengths[: part.rows] - part.job.time
            lengths[part.begin : part.begin + part.rows] = np.minimum(own, self.steps)
        steps = int(lengths.max())
        inputs = [
            self._side_by_side(number, steps, per_step=entry.per_step)
            for number, entry in enumerate(engine.spec.inputs)
        ]
        state = [
            np.concatenate([part.job.state[number][: part.rows] for part in self.parts])
            for number in range(len(engine.spec.state))
        ]
        return run_batch(engine, inputs, lengths, state, together=together)

    def share_out(self, engine: Engine, result: RunResult) -> None:
        """Gives every job its results."""
        for part in self.parts:
            rows = slice(part.begin, part.begin + part.rows)
            part.job.absorb(
                self.steps,
                part.rows,
                [
                    array[:, rows] if entry.per_step else array[rows]
                    for array, entry in zip(result.outputs, engine.spec.outputs, strict=True)
                ],
                [array[rows] for array in result.state],
                [row - rows.start for row in result.failed if rows.start <= row < rows.stop],
            )

    def _side_by_side(self, number: int, steps: int, *, per_step: bool) -> Array:
        """One input of all parts: [steps, rows, ...] from each job's time on, or [rows, ...]."""
        if not per_step:
            return np.concatenate([part.job.inputs[number][: part.rows] for part in self.parts])
        pieces = [
            part.job.inputs[number][part.job.time : part.job.time + steps, : part.rows] for part in self.parts
        ]
        if len(pieces) == 1:
            return np.ascontiguousarray(pieces[0])
        together = np.zeros((steps, self.rows, *pieces[0].shape[2:]), pieces[0].dtype)
        for part, piece in zip(self.parts, pieces, strict=True):
            together[: len(piece), part.begin : part.begin + part.rows] = piece
        return together
