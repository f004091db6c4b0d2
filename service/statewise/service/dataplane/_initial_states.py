"""Computes each row's initial decoder state: runs the encoder, then feeds the begin token and the prompt.

Each function waits for its own jobs and keeps nothing.
"""

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, ServiceError, server_fault
from statewise.service.dataplane._job_calls import CancellationToken, consume
from statewise.service.dataplane._session_lease import SessionLease
from statewise.service.inputs import RawSequences, TokenizedSequences, single_tokens, tokenize_sequences
from statewise.service.registry import LoadedModel
from statewise.wire import Reason


def can_start_empty(model: LoadedModel) -> bool:
    """Returns whether a session can generate at position 0: from a begin token or the encoder's state."""
    codec, generator = model.auxiliary.codec, model.auxiliary.generator
    if codec is not None and codec.begin is not None:
        return True
    return model.auxiliary.encoder is not None and generator is not None and generator.spec.graph


def encoder_input(model: LoadedModel, raw: RawSequences, rows: int) -> TokenizedSequences:
    """Reads the encoder's input sequences; each row has at least one time step, or a failure.

    Raises:
        ServiceError: WRONG_CALL where there is no encoder; BAD_TENSOR, BAD_REQUEST.
    """
    encoder = model.auxiliary.encoder
    if encoder is None:
        raise ServiceError(
            Reason.WRONG_CALL, f"model {model.package.name!r} has no encoder: leave its inputs out"
        )
    spec = encoder.engine.spec
    if not raw:
        names = ", ".join(repr(entry.name) for entry in spec.inputs)
        raise ServiceError(
            Reason.BAD_TENSOR, f"the encoder's input is missing: expected {names} as the condition"
        )
    if raw.text is None and raw.lengths is None:
        raw = _flattened(raw, rows)
    source = tokenize_sequences(spec, encoder.codec, raw, rows=rows, end=encoder.appends_end)
    for row in np.flatnonzero(source.lengths == 0).tolist():
        source.failures.setdefault(row, "the encoder's input has 0 time steps; expected at least 1")
    return source


async def encoded_states(
    model: LoadedModel, source: TokenizedSequences, rows: Indices, cancellation: CancellationToken
) -> tuple[list[Array], NDArray[np.bool_]]:
    """Runs the encoder; returns its states in the form of session states, and which rows did not fail.

    Raises:
        ServiceError: QUEUE_FULL, DEADLINE, CANCELLED.
    """
    encoder, scheduler = model.auxiliary.encoder, model.encoder_scheduler
    assert encoder is not None, "only encoders have sources"
    assert scheduler is not None, "an encoder has a scheduler"
    with scheduler.reserve_capacity(int(source.lengths[rows].sum(dtype=np.int64))):
        encoded, _, good = await consume(
            scheduler, encoder.engine.spec, source.columns, rows, [], cancellation
        )
    return [*encoded, *model.arena.initial(len(rows))[len(encoded) :]], good


async def prompted_states(
    model: LoadedModel,
    source: TokenizedSequences | None,
    prompts: TokenizedSequences,
    rows: Indices,
    cancellation: CancellationToken,
) -> tuple[list[Array], NDArray[np.bool_]]:
    """Computes the states of rows after source (None: no encoder) and prompt; which rows did not fail.

    Raises:
        ServiceError: as encoded_states.
    """
    state, good = model.arena.initial(len(rows)), np.ones(len(rows), np.bool_)
    if source is not None:
        state, good = await encoded_states(model, source, rows, cancellation)
    prompted = np.flatnonzero(good & (prompts.lengths[rows] > 0))
    if len(prompted):
        before = [array[prompted] for array in state]
        spec = model.package.spec
        _, after, succeeded = await consume(
            model.scheduler, spec, prompts.columns, rows[prompted], before, cancellation
        )
        for whole, array in zip(state, after, strict=True):
            whole[prompted] = array
        good[prompted] = succeeded
    return state, good


async def leased_states(
    model: LoadedModel, lease: SessionLease, cancellation: CancellationToken
) -> tuple[list[Array], NDArray[np.uint64]]:
    """Computes the states and positions that rows generate from; at position 0 a begin token comes first.

    Raises:
        ServiceError: DEADLINE, CANCELLED, INTERNAL.
    """
    positions = lease.positions[lease.rows]
    token = None if model.auxiliary.codec is None else model.auxiliary.codec.begin
    empty = np.flatnonzero(positions == 0)
    if token is None or not len(empty):
        return lease.state, positions
    spec = model.package.spec
    columns = single_tokens(spec, np.full(len(empty), token)).columns
    before = [array[empty] for array in lease.state]
    _, after, good = await consume(
        model.scheduler, spec, columns, np.arange(len(empty)), before, cancellation
    )
    if not good.all():
        raise server_fault()
    for whole, array in zip(lease.state, after, strict=True):
        whole[empty] = array
    return lease.state, positions + (positions == 0)


def _flattened(raw: RawSequences, rows: int) -> RawSequences:
    """Views tensors [rows, T, ...] as rows of T steps each, one after another."""
    flat: dict[str, Array] = {}
    lengths = set()
    for name, array in raw.inputs.items():
        if array.ndim < 2 or len(array) != rows:
            raise ServiceError(
                Reason.BAD_TENSOR,
                f"input {name!r}: expected shape [{rows}, time steps, ...]; got {list(array.shape)}",
            )
        lengths.add(array.shape[1])
        flat[name] = array.reshape(-1, *array.shape[2:])
    if len(lengths) > 1:
        raise ServiceError(Reason.BAD_TENSOR, f"expected inputs of equal length; got {sorted(lengths)}")
    return RawSequences(flat, np.full(rows, lengths.pop(), np.uint32))
