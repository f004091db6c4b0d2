"""Steps of single sessions that leave in one message, and its reply dealt back.

A lane holds the steps of one model version that wait to be sent. Whatever has gathered there when the
connection has room leaves as one frame: the busier the client, the fuller its frames. Rows of many steps
leave apart from short ones, which would wait for them. A row's failure is that row's alone; where the server
refuses a whole frame for its content, its rows are sent again each on its own.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from google.protobuf import duration_pb2
from numpy.typing import NDArray

from statewise.client._effects import Sink, stream_request
from statewise.client._hub import Hub
from statewise.client._info import ModelInfo
from statewise.client._journal import Inputs
from statewise.client._outputs import read_outputs
from statewise.client._room import Room
from statewise.client._status import Failed, status_of_row, status_of_rpc
from statewise.v1 import sequence_pb2
from statewise.wire import Chunk, named_tensor, pack_uint32, pack_uint64, unpack_uint64

_SHORT_STEPS = 32
"""Rows of no more time steps than this travel together, however their lengths differ."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one session's step gave."""

    outputs: tuple[NDArray[Any], ...]
    """In the order of the model's outputs: per-step outputs [steps, ...], others [...]."""
    durable_position: int


class StepRow:
    """Advances one session by the steps in `payload`; the outcome is a `Reply`."""

    __slots__ = ("handle", "lane", "payload", "position", "sink", "steps")

    def __init__(self, lane: "Lane", handle: int, position: int, steps: int, payload: Inputs) -> None:
        self.lane = lane
        self.handle = handle
        self.position = position
        self.steps = steps
        self.payload = payload
        self.sink: Sink | None = None

    def begin(self, hub: Hub, sink: Sink) -> None:
        """Joins the lane."""
        self.sink = sink
        self.lane.add(self)

    def withdraw(self, hub: Hub, sink: Sink) -> bool:
        """Only while it waits in the lane. A frame of this row alone is cancelled, a shared one is not."""
        return self.lane.remove(self)


class Lane:
    """Waiting steps of one model version and one timeout."""

    def __init__(self, hub: Hub, model: ModelInfo, room: Room, timeout_s: float | None) -> None:
        self._hub = hub
        self.model = model
        self.room = room
        self._timeout_s = timeout_s
        self._waiting: deque[StepRow] = deque()
        self._offered = False

    def add(self, row: StepRow) -> None:
        """Queues a row."""
        self._waiting.append(row)
        if not self._offered:
            self._offered = True
            self._hub.offer(self)

    def remove(self, row: StepRow) -> bool:
        """Takes a row back; False where it was sent."""
        if row in self._waiting:
            self._waiting.remove(row)
            return True
        self._hub.cancel(lambda request: isinstance(request, Frame) and request.rows == [row])
        return False

    def send_alone(self, row: StepRow) -> None:
        """Sends a row in a frame of its own."""
        self._hub.enqueue(Frame(self, [row]))

    def take(self) -> "Frame | None":
        """The next frame, or None when nothing waits."""
        waiting = self._waiting
        if not waiting:
            self._offered = False
            return None
        rows: list[StepRow] = []
        others: list[StepRow] = []
        steps = cost_bytes = 0
        room, length = self.room, _length(waiting[0])
        while waiting and len(rows) < room.rows:
            if _length(waiting[0]) != length:
                others.append(waiting.popleft())
                continue
            steps += waiting[0].steps
            cost_bytes += room.cost_bytes(waiting[0].steps)
            if rows and (steps > room.steps or cost_bytes > room.bytes):
                break
            rows.append(waiting.popleft())
        waiting.extendleft(reversed(others))
        return Frame(self, rows)

    def fail(self, failed: Failed) -> None:
        """The connection went before anything waiting here was sent."""
        self._offered = False
        rows, self._waiting = self._waiting, deque()
        for row in rows:
            assert row.sink is not None
            row.sink.throw(failed)

    def request(
        self,
        handles: Iterable[int] | NDArray[np.uint64],
        positions: Iterable[int] | NDArray[np.uint64],
        steps: NDArray[np.uint32],
        columns: Iterable[Chunk],
    ) -> list[Chunk]:
        """Rows as one StepRequest, encoded.

        Args:
            handles: of each row.
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


class Frame:
    """Rows on their way together."""

    __slots__ = ("_lane", "rows")
    is_frame: ClassVar[bool] = True

    def __init__(self, lane: Lane, rows: list[StepRow]) -> None:
        self._lane = lane
        self.rows = rows

    def encode(self, request_id: int) -> bytes:
        """The message, numbered."""
        rows = self.rows
        request = self._lane.request(
            [row.handle for row in rows],
            [row.position for row in rows],
            np.array([row.steps for row in rows], np.uint32),
            map(b"".join, zip(*(row.payload for row in rows), strict=True)),
        )
        return stream_request(request_id, "step", request)

    def deliver(self, response: sequence_pb2.SessionStreamResponse) -> bool:
        """Deals the reply."""
        if response.HasField("error"):
            self._refused(Failed(status_of_rpc(response.error)))
            return True
        outcomes = deal(self._lane.model, response.step, [row.steps for row in self.rows])
        for row, outcome in zip(self.rows, outcomes, strict=True):
            assert row.sink is not None
            if isinstance(outcome, Reply):
                row.sink.resume(outcome)
            else:
                row.sink.throw(outcome)
        return True

    def fail(self, failed: Failed) -> None:
        """Nobody knows what became of the rows."""
        for row in self.rows:
            assert row.sink is not None
            row.sink.throw(failed)

    def traced(self) -> tuple[str, list[Any]]:
        """See `Pending`."""
        return "step", [row.sink.origin for row in self.rows if row.sink is not None]

    def _refused(self, failed: Failed) -> None:
        if len(self.rows) > 1 and failed.status.code == "INVALID_ARGUMENT":
            for row in self.rows:
                self._lane.send_alone(row)
        else:
            self.fail(failed)


def _length(row: StepRow) -> int:
    """The same number for rows that may travel together: long ones within a factor of two."""
    return max(row.steps, _SHORT_STEPS).bit_length()


def deal(model: ModelInfo, response: sequence_pb2.StepResponse, steps: list[int]) -> list[Reply | Failed]:
    """Cuts a step's reply into its rows.

    Raises:
        TensorError, KeyError, ValueError: the reply does not fit the request.
    """
    outcomes: list[Reply | Failed] = []
    errors = {error.row: Failed(status_of_row(error)) for error in response.errors}
    good = [index for index in range(len(steps)) if index not in errors] if errors else range(len(steps))
    outputs = read_outputs(model, response.outputs, rows=len(good), steps=sum(steps[index] for index in good))
    durable = unpack_uint64(response.durable_positions).tolist() or [0] * len(good)
    place, offset = 0, 0
    for index, count in enumerate(steps):
        if index in errors:
            outcomes.append(errors[index])
            continue
        cut = tuple(
            array[offset : offset + count] if spec.per_step else array[place]
            for spec, array in zip(model.outputs, outputs, strict=True)
        )
        outcomes.append(Reply(cut, durable[place]))
        place += 1
        offset += count
    return outcomes


def set_timeout(request: Any, timeout_s: float | None) -> None:
    """Puts a timeout into a request that has the field."""
    if timeout_s is not None:
        seconds = math.floor(timeout_s)
        nanos = int((timeout_s - seconds) * 1e9)
        request.timeout.CopyFrom(duration_pb2.Duration(seconds=seconds, nanos=nanos))
