"""Computes how many rows and time steps one request may hold, from the limits that a server announced."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from statewise.client.values._errors import LimitReached
from statewise.client.values._given_state import GivenState
from statewise.client.values._info import Limits, ModelInfo, TensorInfo

# Bytes of a message beside its tensors: columns of 20 bytes a row; names and tags.
_ROW_BYTES = 24
_MESSAGE_BYTES = 4096

# If a server announces no limit: gRPC's default for bytes, and counts that no request reaches.
_FALLBACK_MESSAGE_BYTES = 4 * 1024 * 1024
_FALLBACK_COUNT = 1 << 20


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The largest request of a model."""

    bytes: int
    rows: int
    steps: int
    """Time steps, all rows together."""
    step_bytes: int
    """Bytes of one time step."""
    row_bytes: int = _ROW_BYTES
    """Bytes of a row beside its time steps."""

    @classmethod
    def for_steps(cls, limits: Limits, model: ModelInfo) -> "RequestLimits":
        """Returns the limits of a step. Its response is one message too, so the larger of the two counts."""
        return cls._of(limits, max(size_bytes(model.inputs), size_bytes(model.outputs)))

    @classmethod
    def for_predict(cls, limits: Limits, model: ModelInfo) -> "RequestLimits":
        """Returns the limits of a prediction. Its response may be several messages, so only inputs count."""
        return cls._of(limits, size_bytes(model.inputs))

    @classmethod
    def _of(cls, limits: Limits, step_bytes: int) -> "RequestLimits":
        message_bytes = limits.message_bytes or _FALLBACK_MESSAGE_BYTES
        return cls(
            bytes=max(message_bytes - _MESSAGE_BYTES, message_bytes // 2),
            rows=limits.request_rows or _FALLBACK_COUNT,
            steps=limits.request_steps or _FALLBACK_COUNT,
            step_bytes=step_bytes,
        )

    @property
    def row_steps(self) -> int:
        """Time steps of the longest row that fits into a request."""
        return max(1, min(self.steps, (self.bytes - self.row_bytes) // max(self.step_bytes, 1)))

    def cost_bytes(self, steps: int) -> int:
        """Returns bytes of a row of so many time steps."""
        return steps * self.step_bytes + self.row_bytes

    def bounds(self, steps: NDArray[np.uint32]) -> list[tuple[int, int]]:
        """Splits rows into ranges, first and last (exclusive), of which each fits into a request.

        Args:
            steps: time steps of every row.

        Raises:
            LimitReached: a single row is too long.
        """
        longest = int(steps.max())
        if longest > self.row_steps:
            raise LimitReached(
                f"expected at most {self.row_steps} time steps a row, what fits into one request; "
                f"got {longest}"
            )
        rows, total = len(steps), int(steps.sum())
        if (
            rows <= self.rows
            and total <= self.steps
            and total * self.step_bytes + rows * self.row_bytes <= self.bytes
        ):
            return [(0, rows)]
        ends = np.cumsum(steps, dtype=np.int64)
        costs = ends * self.step_bytes + np.arange(1, len(steps) + 1) * self.row_bytes
        bounds: list[tuple[int, int]] = []
        begin = 0
        while begin < len(steps):
            steps_before = int(ends[begin - 1]) if begin else 0
            cost_before = int(costs[begin - 1]) if begin else 0
            end = min(
                begin + self.rows,
                int(np.searchsorted(ends, steps_before + self.steps, side="right")),
                int(np.searchsorted(costs, cost_before + self.bytes, side="right")),
            )
            # A single time step over the limit is sent all the same, and the server refuses it.
            bounds.append((begin, max(end, begin + 1)))
            begin = bounds[-1][1]
        return bounds

    def texts_bounds(self, texts: Iterable[str]) -> list[tuple[int, int]]:
        """Does the same for rows of text, which have at most as many tokens as bytes."""
        sizes = np.array([len(text.encode()) for text in texts], np.uint32)
        most_steps = max(self.steps, int(sizes.max()))
        return replace(self, steps=most_steps, step_bytes=1).bounds(sizes)

    def with_state(self, state: GivenState | None) -> "RequestLimits":
        """Returns the limits of requests that carry given states, too."""
        if state is None:
            return self
        return replace(
            self, bytes=self.bytes - state.shared_bytes, row_bytes=self.row_bytes + state.row_bytes
        )


def size_bytes(specs: Iterable[TensorInfo]) -> int:
    """Returns bytes of one value of each tensor."""
    return sum(np.dtype(spec.dtype).itemsize * math.prod(spec.shape) for spec in specs)
