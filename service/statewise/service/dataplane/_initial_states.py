"""The states that rows generate from: what their encoder leaves, and with what comes first consumed.

Not the generating. Each function waits for jobs of its own; nothing is kept.
"""

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, ServiceError, server_fault
from statewise.service.dataplane._job_calls import CancellationToken, read
from statewise.service.dataplane._session_lease import SessionLease
from statewise.service.inputs import RawSequences, TokenizedSequences, begin_inputs, tokenize_sequences
from statewise.service.registry import LoadedModel
from statewise.wire import Reason


def can_start_empty(model: LoadedModel) -> bool:
    """Whether a session that has consumed nothing can generate: by a begin token, or the encoder's state."""
    codec, generator = model.auxiliary.codec, model.auxiliary.generator
    if codec is not None and codec.begin is not None:
        return True
    return model.auxiliary.encoder is not None and generator is not None and generator.spec.graph


def encoder_input(model: LoadedModel, raw: RawSequences, rows: int) -> TokenizedSequences:
    """What the encoder reads, each row at least one time step long or a failure.

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
    source = tokenize_sequences(spec, encoder.codec, raw, rows=rows)
    for row in np.flatnonzero(source.lengths == 0).tolist():
        source.failures.setdefault(row, "the encoder's input has 0 time steps; expected at least 1")
    return source


async def encoded_states(
    model: LoadedModel, source: TokenizedSequences, rows: NDArray[np.intp], cancellation: CancellationToken
) -> tuple[list[Array], NDArray[np.bool_]]:
    """The states that the encoder leaves, as sessions keep them; and which rows did not fail.

    Raises:
        ServiceError: QUEUE_FULL, DEADLINE, CANCELLED.
    """
    encoder, scheduler = model.auxiliary.encoder, model.encoder_scheduler
    assert encoder is not None, "there are sources of encoders only"
    assert scheduler is not None, "an encoder has a scheduler"
    with scheduler.reserve_capacity(int(source.lengths[rows].sum(dtype=np.int64))):
        encoded, _, good = await read(scheduler, encoder.engine.spec, source, rows, [], cancellation)
    return [*encoded, *model.arena.initial(len(rows))[len(encoded) :]], good


async def prompted_states(
    model: LoadedModel,
    source: TokenizedSequences | None,
    prompts: TokenizedSequences,
    rows: NDArray[np.intp],
    cancellation: CancellationToken,
) -> tuple[list[Array], NDArray[np.bool_]]:
    """The states of rows that have read what their encoder says and their prompt; and which did not fail.

    Raises:
        ServiceError: as encoded_states.
    """
    state, good = model.arena.initial(len(rows)), np.ones(len(rows), np.bool_)
    if source is not None:
        state, good = await encoded_states(model, source, rows, cancellation)
    reads = np.flatnonzero(good & (prompts.lengths[rows] > 0))
    if len(reads):
        before = [array[reads] for array in state]
        spec = model.package.spec
        _, after, well = await read(model.scheduler, spec, prompts, rows[reads], before, cancellation)
        for kept, array in zip(state, after, strict=True):
            kept[reads] = array
        good[reads] = well
    return state, good


async def leased_states(
    model: LoadedModel, lease: SessionLease, cancellation: CancellationToken
) -> tuple[list[Array], NDArray[np.uint64]]:
    """States and positions that a claim's rows generate from: begun where they had consumed nothing.

    Raises:
        ServiceError: DEADLINE, CANCELLED, INTERNAL.
    """
    start = lease.positions[lease.rows]
    token = None if model.auxiliary.codec is None else model.auxiliary.codec.begin
    begun = np.flatnonzero(start == 0)
    if token is None or not len(begun):
        return lease.state, start
    spec = model.package.spec
    tokens = TokenizedSequences(np.ones(len(begun), np.uint32), begin_inputs(spec, token, len(begun)), {})
    before = [array[begun] for array in lease.state]
    _, after, good = await read(model.scheduler, spec, tokens, np.arange(len(begun)), before, cancellation)
    if not good.all():
        raise server_fault()
    for kept, array in zip(lease.state, after, strict=True):
        kept[begun] = array
    return lease.state, start + (start == 0)


def _flattened(raw: RawSequences, rows: int) -> RawSequences:
    """Tensors [rows, T, ...] as rows of T steps each, one after another."""
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
