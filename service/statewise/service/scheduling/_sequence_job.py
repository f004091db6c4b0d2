"""Work of many time steps, run in pieces: the rows of a Predict bucket, or of a step request with chunks.

Rows are kept longest first and padded to the longest, so that the rows still running at any time are the
first ones and a piece is a plain slice. A job owns its working state: nothing of a session changes before the
job is done, so giving it up restores everything.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, ServiceError, offsets_in_rows, starts_of
from statewise.service.scheduling._job import Job, SliceMember
from statewise.service.scheduling._piece import SequenceSlice
from statewise.wire import DTYPES, ModelSpec


class SequenceJob(Job):
    """Rows, their inputs and states, and how far they have come.

    Args:
        spec: The model's.
        inputs: In the spec's order, in request order: per-step [elements, ...], others [rows, ...].
        lengths: Time steps of each row, [rows], each at least 1.
        starts: Where each row begins in the per-step inputs, [rows]; None: one row after another.
        state: In the spec's order, [rows, ...], in request order.
        done: As of Job. The others, too.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        inputs: Sequence[Array],
        lengths: NDArray[np.integer],
        starts: NDArray[np.intp] | None = None,
        state: Sequence[Array],
        done: "Callable[[SequenceJob, ServiceError | None], None]",
        is_cancelled: Callable[[], bool],
        deadline_s: float | None,
    ) -> None:
        super().__init__(done=done, is_cancelled=is_cancelled, deadline_s=deadline_s)
        self._spec = spec
        self._order = np.argsort(-lengths.astype(np.int64), kind="stable")
        self.request_lengths = lengths
        """Time steps of each row, in request order."""
        self.lengths = lengths[self._order].astype(np.int32)
        self.time_steps = int(self.lengths.sum())
        begins = (starts_of(lengths) if starts is None else starts)[self._order]
        self.inputs = [
            self._pad(array, begins) if entry.per_step else array[self._order]
            for array, entry in zip(inputs, spec.inputs, strict=True)
        ]
        self.state = [array[self._order] for array in state]
        rows, longest = len(self.lengths), int(self.lengths[0])
        self.outputs: list[Array] = [
            np.zeros(
                (longest, rows, *entry.shape) if entry.per_step else (rows, *entry.shape), DTYPES[entry.dtype]
            )
            for entry in spec.outputs
        ]
        self.failed: set[int] = set()
        """Rows, longest first, whose run failed even alone."""

    @property
    def remaining(self) -> int:
        """Time steps that the longest row still has to run."""
        return int(self.lengths[0]) - self.time

    @property
    def active(self) -> int:
        """Rows that still run: the first ones."""
        return int(np.count_nonzero(self.lengths > self.time))

    def piece(self, parts: list[SliceMember[Any]], steps: int) -> SequenceSlice:
        """See Job."""
        return SequenceSlice(parts, steps)

    def absorb(
        self,
        steps: int,
        rows: int,
        outputs: Sequence[Array],
        state: Sequence[Array],
        failed: Sequence[int],
    ) -> None:
        """Takes the results of a piece of up to `steps` time steps of the first `rows` rows."""
        taken = min(steps, self.remaining)
        ending = self.lengths[:rows] <= self.time + steps
        for kept, array, entry in zip(self.outputs, outputs, self._spec.outputs, strict=True):
            if entry.per_step:
                kept[self.time : self.time + taken, :rows] = array[:taken]
            else:
                kept[:rows][ending] = array[ending]
        for kept, array in zip(self.state, state, strict=True):
            kept[:rows] = array
        self.failed.update(failed)
        self.time += taken

    def results(self) -> tuple[list[Array], list[Array], NDArray[np.bool_]]:
        """Outputs as the inputs were laid out, states, and which rows are good; all in request order.

        Outputs of failed rows are there and mean nothing.
        """
        place = np.empty(len(self._order), np.intp)
        place[self._order] = np.arange(len(self._order))
        good = np.ones(len(place), np.bool_)
        good[[int(self._order[row]) for row in self.failed]] = False
        outputs = [
            self._unpad(array, place) if entry.per_step else array[place]
            for array, entry in zip(self.outputs, self._spec.outputs, strict=True)
        ]
        return outputs, [array[place] for array in self.state], good

    def _pad(self, flat: Array, begins: NDArray[np.intp]) -> Array:
        """[elements, ...] to [T, rows, ...], longest first; short rows repeat their last element."""
        if len(begins) == 1:
            return flat[begins[0] : begins[0] + self.time_steps, None]
        time = np.arange(self.lengths[0])[:, None]
        return flat.take(np.minimum(time, self.lengths - 1) + begins, axis=0)

    def _unpad(self, padded: Array, place: NDArray[np.intp]) -> Array:
        """[T, rows, ...], longest first, to [sum(lengths), ...] in request order."""
        if len(place) == 1:
            return padded[:, 0]
        lengths = self.request_lengths
        return padded[offsets_in_rows(lengths), np.repeat(place, lengths)]
