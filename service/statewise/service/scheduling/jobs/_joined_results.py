"""Joins what is known of rows with what jobs computed of them to the results of one request."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Indices, RaggedColumns, offsets_in_rows
from statewise.service.scheduling.jobs._sequence_job import SequenceJob
from statewise.service.scheduling.prefixes import PrefixNode
from statewise.wire import DTYPES, ModelSpec


class JoinedResults:
    """Results of a request, filled row by row.

    Args:
        spec: Of the graph.
        lengths: Time steps of each row of the request.
    """

    def __init__(self, spec: ModelSpec, lengths: NDArray[np.integer[Any]]) -> None:
        self.outputs = RaggedColumns.blank(spec.outputs, lengths)
        """Outputs of all rows."""
        self.state = [np.zeros((len(lengths), *pair.shape), DTYPES[pair.dtype]) for pair in spec.state]
        """States of all rows after their last steps."""
        self.good = np.ones(len(lengths), np.bool_)
        """Which rows did not fail."""
        outputs = list(zip(self.outputs.arrays, spec.outputs, strict=True))
        self._per_step = [array for array, entry in outputs if entry.per_step]
        self._last = [array for array, entry in outputs if not entry.per_step]

    def put_known(self, row: int, found: Sequence[PrefixNode], *, whole: bool, outputs: bool) -> None:
        """Puts what was known of a row.

        Args:
            row: Which row.
            found: The nodes that it began behind.
            whole: Whether they are all of it.
            outputs: Whether outputs that are per step are wanted; `found` then has all of them.
        """
        if whole:
            for kept, array in zip(self.state, found[-1].state or (), strict=True):
                kept[row] = array
            for kept, array in zip(self._last, found[-1].last or (), strict=True):
                kept[row] = array
        start = int(self.outputs.starts[row])
        for node in found if outputs else ():
            assert node.outputs is not None, "wanted outputs are looked for"
            for kept, array in zip(self._per_step, node.outputs, strict=True):
                kept[start + node.steps - len(array) : start + node.steps] = array

    def put_computed(self, rows: Indices, begins: NDArray[np.int64], job: SequenceJob) -> None:
        """Puts what a job computed of rows, from the time step `begins` of each row on."""
        computed, state, good = job.results()
        self.good[rows] = good
        for kept, array in zip(self.state, state, strict=True):
            kept[rows] = array
        assert computed.lengths is not None, "sequences have lengths"
        starts = self.outputs.starts[rows] + begins
        elements = np.repeat(starts, computed.lengths) + offsets_in_rows(computed.lengths)
        for kept, array, entry in zip(
            self.outputs.arrays, computed.arrays, self.outputs.tensors, strict=True
        ):
            kept[elements if entry.per_step else rows] = array
