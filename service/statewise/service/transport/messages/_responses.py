"""Builds replies: converts results, sessions and generated parts to messages.

Decides nothing about models or sessions.
"""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence

import numpy as np

from statewise.service.base import Array, StepResult
from statewise.service.dataplane import (
    GeneratedPart,
    ListedSession,
    OpenedSession,
    PredictPart,
    ReadStates,
    SessionEnds,
    StateMatrix,
    StoredCheckpoint,
)
from statewise.service.registry import LoadedModel
from statewise.service.transport.messages._status import row_error
from statewise.v1 import admin_pb2, sequence_pb2, tensor_pb2
from statewise.wire import ModelSpec, fill_tensor, pack_uint32, pack_uint64, to_tensor

_STATES = {"awake": admin_pb2.SESSION_STATE_AWAKE, "asleep": admin_pb2.SESSION_STATE_ASLEEP}


_END_BYTES = 24
"""Of a session's row, length, position and durable position."""


def fill_step_response(response: sequence_pb2.StepResponse, result: StepResult) -> None:
    """Fills an empty message in place: a message built apart would be copied into its parent."""
    for name, array in result.outputs.items():
        fill_tensor(response.outputs[name], array)
    if result.failures:
        response.errors.extend([row_error(failure) for failure in result.failures])
    if result.durable_positions is not None:
        response.durable_positions = pack_uint64(result.durable_positions)


def session_message(opened: OpenedSession) -> sequence_pb2.Session:
    """Returns a session with its handle, for the client that holds it."""
    package, view = opened.model.package, opened.view
    return sequence_pb2.Session(
        session_id=view.session_id,
        handle=view.handle,
        model=package.name,
        version=package.version,
        digest=package.digest,
        epoch=view.epoch,
        position=view.position,
        durable_position=view.durable_position,
        created=opened.created,
        birth=view.birth,
        durability=sequence_pb2.Durability.ValueType(view.durability),
        keep=opened.keep,
        kept_positions=pack_uint64(np.array(opened.kept_positions, np.uint64)),
    )


def checkpoint_message(checkpoint: StoredCheckpoint) -> sequence_pb2.Checkpoint:
    """Returns what a named checkpoint is, without its state."""
    message = sequence_pb2.Checkpoint(
        name=checkpoint.name,
        position=checkpoint.position,
        origin=checkpoint.origin,
        size_bytes=checkpoint.size_bytes,
    )
    message.made_at.FromMilliseconds(checkpoint.made_ms)
    return message


def session_info_message(listed: ListedSession) -> admin_pb2.SessionInfo:
    """Returns a session without its handle, for listings."""
    info = admin_pb2.SessionInfo(
        session_id=listed.session_id,
        owner=listed.owner,
        model=listed.model,
        version=listed.version,
        position=listed.position,
        durable_position=listed.durable_position,
        epoch=listed.epoch,
        nonfinite_state=listed.nonfinite_state,
        state=_STATES[listed.state],
        damaged=listed.damaged,
        keep=listed.keep,
        checkpoint_bytes=listed.checkpoint_bytes,
    )
    info.idle.FromNanoseconds(int(listed.idle_s * 1e9))
    return info


def states_response(read: ReadStates) -> sequence_pb2.ReadStatesResponse:
    """Builds the message of sessions' states."""
    response = sequence_pb2.ReadStatesResponse(
        positions=pack_uint64(read.positions), errors=[row_error(failure) for failure in read.failures]
    )
    fill_states(response.state, read.state)
    return response


def fill_states(tensors: MutableMapping[str, tensor_pb2.Tensor], state: Mapping[str, Array]) -> None:
    """Fills states into the map of a message."""
    for name, array in state.items():
        fill_tensor(tensors[name], array)


def states_matrix_response(matrix: StateMatrix, *, next_page_token: str) -> admin_pb2.GetStatesResponse:
    """Builds the message of many sessions' states."""
    response = admin_pb2.GetStatesResponse(
        session_ids=matrix.session_ids,
        positions=pack_uint64(matrix.positions),
        next_page_token=next_page_token,
    )
    fill_tensor(response.states, matrix.states)
    return response


def predict_responses(
    model: LoadedModel, part: PredictPart, *, message_bytes: int, labels: bool
) -> Iterator[sequence_pb2.PredictResponse]:
    """Yields a part of a prediction in messages below the limit; a single row may exceed the limit."""
    version = model.package.version
    if part.failures:
        yield sequence_pb2.PredictResponse(errors=[row_error(f) for f in part.failures], version=version)
    spec = model.package.spec
    ends = np.cumsum(part.lengths, dtype=np.int64)
    for rows in _message_rows(part, spec, message_bytes):
        steps = slice(int(ends[rows.start - 1]) if rows.start else 0, int(ends[rows.stop - 1]))
        chosen = [
            array[steps if entry.per_step else rows]
            for array, entry in zip(part.outputs, spec.outputs, strict=True)
        ]
        yield sequence_pb2.PredictResponse(
            rows=pack_uint32(part.rows[rows]),
            lengths=pack_uint32(part.lengths[rows]),
            outputs=_tensors(spec, chosen),
            labels=_labels(spec, chosen[0]) if labels else (),
            version=version,
        )


def generate_response(part: GeneratedPart) -> sequence_pb2.GenerateResponse:
    """Builds the message of what rows without a session emitted."""
    response = sequence_pb2.GenerateResponse(errors=[row_error(one) for one in part.failures])
    _fill_generated(response, part)
    return response


def generate_sessions_response(part: GeneratedPart) -> sequence_pb2.GenerateSessionsResponse:
    """Builds the message of what sessions emitted, and their positions."""
    response = sequence_pb2.GenerateSessionsResponse(errors=[row_error(one) for one in part.failures])
    _fill_generated(response, part)
    if part.chunk is not None:
        response.positions = pack_uint64(part.chunk.positions)
    return response


def generated_sessions_responses(
    ends: SessionEnds | None, limit_bytes: int
) -> Iterator[sequence_pb2.GenerateSessionsResponse]:
    """Yields the last messages of a generation, with up to that many bytes of positions each; None: none."""
    if ends is not None:
        rows = max(1, limit_bytes // _END_BYTES)
        count = len(ends.rows)
        for begin in range(0, count, rows):
            own = slice(begin, begin + rows)
            yield sequence_pb2.GenerateSessionsResponse(
                rows=pack_uint32(ends.rows[own]),
                lengths=pack_uint32(np.zeros(len(ends.rows[own]), np.uint32)),
                positions=pack_uint64(ends.positions[own]),
                durable_positions=pack_uint64(ends.durable_positions[own]),
                done=begin + rows >= count,
            )
        if count:
            return
    yield sequence_pb2.GenerateSessionsResponse(done=True)


def transduced_response(part: GeneratedPart, *, version: int) -> sequence_pb2.PredictResponse:
    """Returns whole rows that an encoder-decoder emitted."""
    response = sequence_pb2.PredictResponse(errors=[row_error(one) for one in part.failures], version=version)
    _fill_generated(response, part)
    return response


def _fill_generated(
    response: sequence_pb2.GenerateResponse
    | sequence_pb2.GenerateSessionsResponse
    | sequence_pb2.PredictResponse,
    part: GeneratedPart,
) -> None:
    chunk = part.chunk
    if chunk is None:
        return
    response.rows = pack_uint32(chunk.rows)
    response.lengths = pack_uint32(chunk.lengths)
    response.outputs[part.name].CopyFrom(to_tensor(chunk.values))
    if part.text is not None:
        response.text.rows.extend(part.text)


def _labels(spec: ModelSpec, scores: Array) -> list[str]:
    """Chooses the best class of each row; two classes may share one score, the second one's probability."""
    best = scores[:, 0] > 0.5 if scores.shape[1] == 1 else scores.argmax(axis=1)
    return [spec.labels[int(number)] for number in best]


def _tensors(spec: ModelSpec, outputs: Sequence[Array]) -> dict[str, tensor_pb2.Tensor]:
    return {entry.name: to_tensor(array) for entry, array in zip(spec.outputs, outputs, strict=False)}


def _message_rows(part: PredictPart, spec: ModelSpec, message_bytes: int) -> Iterator[slice]:
    """Runs of rows whose outputs fill at most three quarters of a message, or a single row."""
    row_bytes = np.zeros(len(part.rows), np.int64)
    for entry, array in zip(spec.outputs, part.outputs, strict=False):
        element_bytes = array.itemsize * int(np.prod(entry.shape, dtype=np.int64))
        row_bytes += element_bytes * (part.lengths.astype(np.int64) if entry.per_step else 1)
    most_bytes = message_bytes * 3 // 4
    begin = 0
    ends = np.cumsum(row_bytes)
    while begin < len(row_bytes):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most_bytes, side="right")))
        yield slice(begin, end)
        begin = end
