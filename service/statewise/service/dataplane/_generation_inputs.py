"""Holds what the rows of a generation start from: conditions, prompts, values that they have emitted before.

Reads nothing itself: sequences become tokens elsewhere. Lengths of emitted values fit the number of rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, ServiceError
from statewise.service.inputs import Codec, RawSequences
from statewise.wire import Reason


@dataclass(frozen=True, slots=True)
class GenerationInputs:
    """What the rows of a request start from, without sessions.

    Attributes:
        rows: Number of rows.
        condition: One time step a row; with an encoder: the sequences that it reads.
        prompt: Sequences that the rows consume after it.
        emitted: Values that the rows have emitted already, and consume after the prompt, [sum(lengths), ...].
        emitted_lengths: Number of these of each row, [rows]; None: there are none.
    """

    rows: int
    condition: RawSequences
    prompt: RawSequences
    emitted: Array | None = None
    emitted_lengths: NDArray[np.uint32] | None = None

    def emitted_by_row(self) -> list[tuple[int, Array]]:
        """Returns the values that each row has emitted already; rows without any are left out."""
        if self.emitted is None or self.emitted_lengths is None:
            return []
        by_row = np.split(self.emitted, np.cumsum(self.emitted_lengths)[:-1])
        return [(row, values) for row, values in enumerate(by_row) if len(values)]

    def steps_left(self, steps: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Returns the values that each row may still emit of its `steps`, [rows].

        Raises:
            ServiceError: BAD_REQUEST: a row has emitted more.
        """
        if self.emitted_lengths is None:
            return steps
        for row in np.flatnonzero(self.emitted_lengths > steps)[:1].tolist():
            raise ServiceError(
                Reason.BAD_REQUEST,
                f"emitted_lengths: expected at most the {steps[row]} steps of row {row}; "
                f"got {self.emitted_lengths[row]}",
            )
        return steps - self.emitted_lengths

    def ended_rows(self, steps_left: NDArray[np.uint32], codec: Codec | None) -> Indices:
        """Returns the rows that have emitted all they may, or the end token of `codec`."""
        ended = np.flatnonzero(steps_left == 0).tolist()
        if codec is not None and codec.end is not None:
            ended += [row for row, values in self.emitted_by_row() if values[-1] == codec.end]
        return np.array(ended, np.intp)
