"""Gathers steps of single sessions into one message, and deals the reply back to the sessions.

A batcher holds the steps of one model version that wait to be sent. When the connection has room, all that
has gathered leaves as one step batch: the busier the client, the fuller its batches. Rows of many time steps
are sent separately from short ones, which would otherwise wait for the long ones. A row's failure affects
that row alone; if the server refuses a whole batch for its content, every row is sent again alone.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.client.stream._messages import set_timeout, stream_request
from statewise.client.stream._multiplexer import StreamMultiplexer
from statewise.client.stream._protocols import RequestQueue, Waiter
from statewise.client.values import (
    Failed,
    InputBytes,
    ModelInfo,
    RequestLimits,
    read_outputs,
    status_of_row,
    status_of_rpc,
)
from statewise.v1 import sequence_pb2
from statewise.wire import Chunk, named_tensor, pack_uint32, pack_uint64, unpack_uint64

_SHORT_STEPS = 32
"""Rows of at most so many time steps travel together, however their lengths differ."""

Outputs = tuple[NDArray[Any], ...]


@dataclass(slots=True)
class StepResult:
    """The result of one session's step."""

    outputs: Outputs
    """In the order of the model's outputs: per-step outputs [steps, ...], others [...]."""
    durable_position: int


class BatchRow(Protocol):
    """One session's part of a step batch."""

    handle: int
    position: int
    """Where the row starts, in time steps."""
    payload: InputBytes

    @property
    def steps(self) -> int:
        """Time steps in the payload."""
        ...

    @property
    def origin(self) -> Any:
        """The caller's span; None: there is none."""
        ...

    def answered(self, outputs: Outputs, durable_position: int) -> None:
        """Notes that the row was applied. `outputs` as in `StepResult`."""
        ...

    def failed(self, failed: Failed) -> None:
        """Notes that the row was not applied, or that this is unknown."""
        ...


class StepRow:
    """Advances one session by the steps in `payload`; the outcome is a `StepResult`."""

    __slots__ = ("_batcher", "_waiter", "handle", "payload", "position", "steps")

    def __init__(
        self, batcher: "StepBatcher", handle: int, position: int, steps: int, payload: InputBytes
    ) -> None:
        self._batcher = batcher
        self._waiter: Waiter | None = None
        self.handle = handle
        self.position = position
        self.steps = steps
        self.payload = payload

    @property
    def origin(self) -> Any:
        """See `BatchRow`."""
        assert self._waiter is not None
        return self._waiter.origin

    def begin(self, queue: RequestQueue, waiter: Waiter) -> None:
        """Joins the batcher."""
        self._waiter = waiter
        self._batcher.add(self)

    def withdraw(self, queue: RequestQueue, waiter: Waiter) -> bool:
        """Succeeds while the row waits. Later its step batch is cancelled if it holds this row alone."""
        return self._batcher.remove(self)

    def answered(self, outputs: Outputs, durable_position: int) -> None:
        """See `BatchRow`."""
        assert self._waiter is not None
        self._waiter.resume(StepResult(outputs, durable_position))

    def failed(self, failed: Failed) -> None:
        """See `BatchRow`."""
        assert self._waiter is not None
        self._waiter.throw(failed)


class StepBatcher:
    """Waiting steps of one model version and one timeout."""

    def __init__(
        self,
        multiplexer: StreamMultiplexer,
        model: ModelInfo,
        request_limits: RequestLimits,
        timeout_s: float | None,
    ) -> None:
        self._multiplexer = multiplexer
        self.model = model
        self.request_limits = request_limits
        self._timeout_s = timeout_s
        self._waiting: deque[BatchRow] = deque()
        self._offered = False

    def add(self, row: BatchRow) -> None:
        """Queues a row."""
        self._waiting.append(row)
        if not self._offered:
            self._offered = True
            self._multiplexer.offer(self)

    def remove(self, row: BatchRow) -> bool:
        """Takes an unsent row back. False: the row was sent."""
        if row in self._waiting:
            self._waiting.remove(row)
            return True
        self._multiplexer.cancel(lambda request: isinstance(request, StepBatch) and request.rows == [row])
        return False

    def send_alone(self, row: BatchRow) -> None:
        """Sends a row in a step batch of its own."""
        self._multiplexer.enqueue(StepBatch(self, [row]))

    def take(self) -> "StepBatch | None":
        """Returns the next step batch. None: no row waits."""
        waiting = self._waiting
        if not waiting:
            self._offered = False
            return None
        rows: list[BatchRow] = []
        others: list[BatchRow] = []
        request_limits, count = self.request_limits, waiting[0].steps
        length, row_bytes = _length(count), request_limits.cost_bytes(count)
        steps = cost_bytes = 0
        while waiting and len(rows) < request_limits.rows:
            row = waiting[0]
            if row.steps != count:
                if _length(row.steps) != length:
                    others.append(waiting.popleft())
                    continue
                count, row_bytes = row.steps, request_limits.cost_bytes(row.steps)
            steps += count
            cost_bytes += row_bytes
            if rows and (steps > request_limits.steps or cost_bytes > request_limits.bytes):
                break
            rows.append(waiting.popleft())
        waiting.extendleft(reversed(others))
        return StepBatch(self, rows)

    def fail(self, failed: Failed) -> None:
        """Fails all rows that wait: the connection ended before they were sent."""
        self._offered = False
        rows, self._waiting = self._waiting, deque()
        for row in rows:
            row.failed(failed)

    def encode_request(
        self,
        handles: Iterable[int] | NDArray[np.uint64],
        positions: Iterable[int] | NDArray[np.uint64],
        steps: NDArray[np.uint32],
        columns: Iterable[Chunk],
    ) -> list[Chunk]:
        """Encodes rows as one StepRequest.

        Args:
            handles: handle of each row.
            positions: start position of each row, in time steps.
            steps: time steps of each row, uint32 [rows].
            columns: by input, in the model's order: the rows' bytes, one after another.
        """
        rows, total = len(steps), int(steps.sum())
        request = sequence_pb2.StepRequest(
            handles=pack_uint64(handles),
            positions=pack_uint64(positions),
            steps=b"" if total == rows else pack_uint32(steps),
        )
        set_timeout(request, self._timeout_s)
        content: list[Chunk] = [request.SerializeToString()]
        for spec, column in zip(self.model.inputs, columns, strict=True):
            shape = (total if spec.per_step else rows, *spec.shape)
            content += named_tensor(request.INPUTS_FIELD_NUMBER, spec.name, spec.dtype, shape, [column])
        return content


class StepBatch:
    """Rows that travel in one message."""

    __slots__ = ("_batcher", "rows")
    is_step_batch: ClassVar[bool] = True

    def __init__(self, batcher: StepBatcher, rows: list[BatchRow]) -> None:
        self._batcher = batcher
        self.rows = rows

    def encode(self, request_id: int) -> bytes:
        """Encodes the message, with its request id."""
        rows = self.rows
        request = self._batcher.encode_request(
            [row.handle for row in rows],
            [row.position for row in rows],
            np.array([row.steps for row in rows], np.uint32),
            map(b"".join, zip(*(row.payload for row in rows), strict=True)),
        )
        return stream_request(request_id, "step", request)

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        """Deals the reply to the rows."""
        if response.HasField("error"):
            self._refused(Failed(status_of_rpc(response.error)))
            return True
        deal(self._batcher.model, response.step, self.rows)
        return True

    def fail(self, failed: Failed) -> None:
        """Fails all rows."""
        for row in self.rows:
            row.failed(failed)

    def traced(self) -> tuple[str, list[Any]]:
        """See `InFlightRequest`."""
        return "step", [row.origin for row in self.rows]

    def _refused(self, failed: Failed) -> None:
        if len(self.rows) > 1 and failed.status.code == "INVALID_ARGUMENT":
            for row in self.rows:
                self._batcher.send_alone(row)
        else:
            self.fail(failed)


def _length(steps: int) -> int:
    """The same number for rows that may travel together: long ones differ by less than a factor of two."""
    return max(steps, _SHORT_STEPS).bit_length()


def deal(model: ModelInfo, response: sequence_pb2.StepResponse, rows: Sequence[BatchRow]) -> None:
    """Gives each row its part of the reply.

    Raises:
        TensorError, KeyError, ValueError: the reply does not fit the request; no row was answered.
    """
    errors = {error.row: Failed(status_of_row(error)) for error in response.errors}
    good = [row for index, row in enumerate(rows) if index not in errors] if errors else rows
    ends = list(accumulate(row.steps for row in good))
    total = ends[-1] if ends else 0
    outputs = read_outputs(model, response.outputs, rows=len(good), steps=total)
    durable = unpack_uint64(response.durable_positions).tolist() or [0] * len(good)
    columns = [
        _cut(array, ends) if spec.per_step else list(array)
        for spec, array in zip(model.outputs, outputs, strict=True)
    ]
    answers = list(zip(good, zip(*columns, strict=True), durable, strict=True))
    failures = [(rows[index], failed) for index, failed in errors.items()]
    for row, parts, position in answers:
        row.answered(parts, position)
    for row, failed in failures:
        row.failed(failed)


def _cut(array: NDArray[Any], ends: list[int]) -> list[NDArray[Any]]:
    """Cuts [sum(steps), ...] into [steps, ...] of each row."""
    if len(ends) == len(array):
        return list(array[:, None])
    return [array[begin:end] for begin, end in pairwise([0, *ends])]
