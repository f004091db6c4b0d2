"""Computes each row's initial decoder state: runs the encoder, then feeds the begin token and the prompt.

Each function waits for its own jobs and keeps nothing.
"""

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, server_fault
from statewise.service.dataplane._session_lease import SessionLease
from statewise.service.dataplane.delivery import CancellationToken, consume
from statewise.service.dataplane.states import consumed_nothing, unchanged_states
from statewise.service.inputs import (
    GivenStates,
    TokenizedSequences,
    single_tokens,
)
from statewise.service.registry import LoadedModel


async def encoded_states(
    model: LoadedModel,
    source: TokenizedSequences,
    rows: Indices,
    cancellation: CancellationToken,
    *,
    owner: int,
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
            scheduler, encoder.engine.spec, source.columns, rows, [], cancellation, owner=owner
        )
    return [*encoded, *model.arena.initial(len(rows))[len(encoded) :]], good


async def prompted_states(
    model: LoadedModel,
    source: TokenizedSequences | None,
    given: GivenStates | None,
    prompts: TokenizedSequences,
    rows: Indices,
    cancellation: CancellationToken,
    *,
    owner: int,
) -> tuple[list[Array], NDArray[np.bool_]]:
    """Computes the states of rows after their prompts; which rows did not fail.

    Args:
        model: The rows' version.
        source: What its encoder reads; None: no encoder runs.
        given: States that the rows begin in; None: those of the encoder, or the model's own.
        prompts: The prompts, a row each.
        rows: Rows of the request.
        cancellation: The request's.
        owner: Number of the caller's owner.

    Raises:
        ServiceError: as encoded_states.
    """
    good = np.ones(len(rows), np.bool_)
    state = model.arena.initial(len(rows)) if given is None else given.of_rows(rows)
    if source is not None:
        state, good = await encoded_states(model, source, rows, cancellation, owner=owner)
    prompted = np.flatnonzero(good & (prompts.lengths[rows] > 0))
    if len(prompted):
        before = [array[prompted] for array in state]
        spec = model.package.spec
        _, after, succeeded = await consume(
            model.scheduler, spec, prompts.columns, rows[prompted], before, cancellation, owner=owner
        )
        for whole, array in zip(state, after, strict=True):
            whole[prompted] = array
        good[prompted] = succeeded
    return state, good


async def leased_states(
    model: LoadedModel, lease: SessionLease, cancellation: CancellationToken
) -> tuple[list[Array], NDArray[np.uint64]]:
    """Computes the states and positions that rows generate from; a begin token comes first where nothing did.

    Raises:
        ServiceError: DEADLINE, CANCELLED, INTERNAL.
    """
    positions = lease.positions[lease.rows]
    token = None if model.auxiliary.codec is None else model.auxiliary.codec.begin
    at_zero = np.flatnonzero(positions == 0)
    if token is None or not len(at_zero):
        return lease.state, positions
    unchanged = unchanged_states(model, [array[at_zero] for array in lease.state])
    empty = at_zero[consumed_nothing(model, positions[at_zero], unchanged)]
    if not len(empty):
        return lease.state, positions
    spec = model.package.spec
    columns = single_tokens(spec, np.full(len(empty), token)).columns
    before = [array[empty] for array in lease.state]
    _, after, good = await consume(
        model.scheduler, spec, columns, np.arange(len(empty)), before, cancellation, owner=lease.owner
    )
    if not good.all():
        raise server_fault()
    for whole, array in zip(lease.state, after, strict=True):
        whole[empty] = array
    consumed = np.zeros(len(positions), np.uint64)
    consumed[empty] = 1
    return lease.state, positions + consumed
