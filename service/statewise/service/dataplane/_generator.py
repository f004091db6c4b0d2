"""Generates without sessions, without transport: from prompts, conditions and what encoders read.

The engine's decode loop computes values, the scheduler decides when. Nothing is kept after a request.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Indices, RowFailure, model_fault
from statewise.service.dataplane._dataplane import Dataplane
from statewise.service.dataplane._initial_states import encoded_states, prompted_states
from statewise.service.dataplane.delivery import (
    CancellationToken,
    GeneratedPart,
    PartChannel,
    RowBuffer,
    generate_rows,
    reserve_capacity,
    with_text,
)
from statewise.service.dataplane.sessions import InitialStates
from statewise.service.dataplane.states import GenerationInputs, GenerationStart, encoder_input
from statewise.service.engine import Sampling
from statewise.service.inputs import RawSequences, TextWriter
from statewise.service.registry import LoadedModel
from statewise.service.scheduling import EmittedChunk
from statewise.wire import DTYPES, Reason

_GROUP_ROWS = 256
"""Rows of a request that generate together; more rows do not make a row cheaper."""
_DEFAULT_STEP_LIMIT = 1024
"""Values after which Predict ends a row, where the model names no limit."""


class Generator:
    """Generation without sessions.

    Args:
        dataplane: Gives models and limits.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._limits = dataplane.limits
        self._clock = dataplane.clock

    async def generate(
        self,
        model: LoadedModel,
        inputs: GenerationInputs,
        steps: NDArray[np.uint32],
        sampling: Sampling,
        cancellation: CancellationToken,
        *,
        owner: str,
    ) -> AsyncGenerator[GeneratedPart]:
        """Generates from prompts and conditions.

        Args:
            model: The version that generates.
            inputs: What the rows start from.
            steps: Most values of each row, uint32 [rows].
            sampling: How values are drawn.
            cancellation: The request's; cancelled when the iteration ends.
            owner: Name of the caller's owner.

        Raises:
            ServiceError: WRONG_CALL, BAD_TENSOR, BAD_REQUEST, BYTES_LIMIT, QUEUE_FULL, DRAINING; DEADLINE and
                CANCELLED, also after some parts.
        """
        self._limits.refuse_when_draining()
        received_s = self._clock()
        self._limits.check_size(inputs.rows, None)
        start = GenerationStart.read(model, inputs, self._limits)
        steps = inputs.steps_left(steps)
        time_steps = self._limits.check_size(inputs.rows, start.prompts.lengths + steps.astype(np.int64))
        writer = _text_writer(model, inputs)
        channel = PartChannel()
        work = model.scheduler.statistics.generate
        number = self._dataplane.table.owner_number(owner)
        with reserve_capacity(model, self._dataplane.undelivered, number, inputs.rows, time_steps) as release:
            good = _put_settled(channel, model, start, inputs.ended_rows(steps, model.auxiliary.codec))
            for begin in range(0, len(good), _GROUP_ROWS):
                rows = good[begin : begin + _GROUP_ROWS]
                share = int((start.prompts.lengths[rows] + steps[rows].astype(np.int64)).sum())
                group = _generate_group(
                    model,
                    start,
                    rows,
                    channel,
                    cancellation,
                    owner=number,
                    steps=steps[rows],
                    sampling=sampling.rows(rows),
                )
                channel.start(group, on_end=partial(release, share))
            try:
                async with aclosing(channel.parts()) as parts:
                    async for part in parts:
                        work.add(part.rows_ended, part.values_emitted, part.failures)
                        yield with_text(part, writer)
            finally:
                cancellation.cancelled = True
                await channel.end()
        latency_s = self._clock() - received_s
        self._dataplane.record_answer("generate", model, latency_s, rows=inputs.rows, steps=time_steps)

    async def transduce(
        self, model: LoadedModel, raw: RawSequences, cancellation: CancellationToken, *, owner: str
    ) -> AsyncGenerator[GeneratedPart]:
        """Encodes sequences and decodes each greedily to its end; gives whole rows.

        Args:
            model: An encoder-decoder.
            raw: The encoder's input; its lengths or texts give the number of rows.
            cancellation: The request's.
            owner: Name of the caller's owner.

        Raises:
            ServiceError: as `generate`.
        """
        rows = len(raw.lengths if raw.lengths is not None else raw.text or ())
        limit = model.require_generator().spec.step_limit or _DEFAULT_STEP_LIMIT
        steps = np.full(rows, limit, np.uint32)
        buffer = RowBuffer()
        inputs = GenerationInputs(rows, raw, RawSequences())
        generated = self.generate(model, inputs, steps, Sampling.greedy(rows), cancellation, owner=owner)
        async with aclosing(generated) as parts:
            async for part in parts:
                yield buffer.add(part)

    async def encode(
        self,
        name: str,
        version: int,
        raw: RawSequences,
        rows: int,
        cancellation: CancellationToken,
        *,
        owner: str,
    ) -> InitialStates | None:
        """Computes the initial states of sessions that are to be opened.

        The version that is returned serves. If it ends while its encoder runs, the request is encoded anew by
        the version that serves instead.

        Args:
            name: Name of the model.
            version: Its version; 0: the default one.
            raw: The encoder's input.
            rows: Number of rows.
            cancellation: The request's.
            owner: Name of the caller's owner.

        Returns:
            None: there is no input, and the model has no encoder.

        Raises:
            ServiceError: MODEL_NOT_FOUND, also where the version ended meanwhile; WRONG_CALL where the model
                has no encoder; else as `generate`.
        """
        while True:
            model = self._dataplane.models.find(name, version)
            if not raw and model.auxiliary.encoder is None:
                return None
            encoded = await self._encode(model, raw, rows, cancellation, owner=owner)
            if self._dataplane.models.serves(model):
                return encoded

    async def _encode(
        self,
        model: LoadedModel,
        raw: RawSequences,
        rows: int,
        cancellation: CancellationToken,
        *,
        owner: str,
    ) -> InitialStates:
        self._limits.refuse_when_draining()
        self._limits.check_size(rows, None)
        source = encoder_input(model, raw, rows, self._limits)
        failures = {row: RowFailure(row, Reason.BAD_TENSOR, why) for row, why in source.failures.items()}
        good = np.setdiff1d(np.arange(rows), list(failures))
        state = model.arena.initial(rows)
        if len(good):
            encoded, succeeded = await encoded_states(
                model, source, good, cancellation, owner=self._dataplane.table.owner_number(owner)
            )
            for whole, array in zip(state, encoded, strict=True):
                whole[good] = array
            failures.update((row, model_fault(row)) for row in good[~succeeded].tolist())
        return InitialStates(model, state, failures)


def _text_writer(model: LoadedModel, inputs: GenerationInputs) -> TextWriter | None:
    """Returns what writes the text behind that of values that were emitted before; None: there is no text."""
    writer = TextWriter.of(model.auxiliary.codec, inputs.rows)
    if writer is not None:
        for row, values in inputs.emitted_by_row():
            writer.add(row, values)
    return writer


def _put_settled(channel: PartChannel, model: LoadedModel, start: GenerationStart, ended: Indices) -> Indices:
    """Puts the parts of rows that cannot generate and of those that have ended; returns the others."""
    if start.failures:
        failures = sorted(start.failures.items())
        refused = [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in failures]
        channel.put(GeneratedPart(None, failures=refused))
    good = start.good_rows()
    is_ended = np.isin(good, ended)
    if is_ended.any():
        channel.put(_nothing_more(model, start, good[is_ended]))
    return good[~is_ended]


def _nothing_more(model: LoadedModel, start: GenerationStart, rows: Indices) -> GeneratedPart:
    """Returns the last part of rows that have ended before."""
    emitted = model.require_generator().spec.emitted
    positions = start.positions_after_prompts(rows)
    none = np.empty((0, *emitted.shape), DTYPES[emitted.dtype])
    ended = np.ones(len(rows), np.bool_)
    return GeneratedPart(
        EmittedChunk(rows, np.zeros(len(rows), np.uint32), none, positions, ended), emitted.name
    )


async def _generate_group(
    model: LoadedModel,
    start: GenerationStart,
    rows: Indices,
    channel: PartChannel,
    cancellation: CancellationToken,
    *,
    owner: int,
    steps: NDArray[np.uint32],
    sampling: Sampling,
) -> None:
    """Reads the prompts of some rows, then generates these rows into the channel."""
    state, good = await prompted_states(
        model, start.source, start.given, start.prompts, rows, cancellation, owner=owner
    )
    channel.put_faults(rows[~good])
    rows = rows[good]
    if len(rows):
        await generate_rows(
            model,
            rows,
            channel,
            cancellation,
            state=[array[good] for array in state],
            positions=start.positions_after_prompts(rows),
            steps=steps[good],
            sampling=sampling.rows(np.flatnonzero(good)),
        )
