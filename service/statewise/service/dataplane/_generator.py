"""What the server generates without sessions, without transport: from prompts, and from what encoders read.

Not how values are made (feedback) nor when (scheduler). What rows emit is given away as it comes; nothing is
kept.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, RowFailure, model_fault
from statewise.service.dataplane._dataplane import Dataplane
from statewise.service.dataplane._emitted import GeneratedPart, WholeRows, with_text
from statewise.service.dataplane._initial_states import encoded_states, encoder_input, prompted_states
from statewise.service.dataplane._job_calls import CancellationToken
from statewise.service.dataplane._part_channel import PartChannel, reserve_capacity, write_rows
from statewise.service.engine import Sampling
from statewise.service.inputs import RawSequences, TextWriter, TokenizedSequences, tokenize_prompts
from statewise.service.registry import LoadedModel
from statewise.wire import Reason

_GROUP_ROWS = 256
"""Rows that are read and written together; beyond it a row costs the same."""
_STEPS_WITHOUT_LIMIT = 1024
"""Values after which Predict gives a row up that has not ended, where the model names no number."""


@dataclass(frozen=True, slots=True)
class GenerationInputs:
    """Rows that begin without a session.

    Attributes:
        rows: How many.
        condition: One time step a row, or what the encoder reads.
        prompt: What is consumed after it.
    """

    rows: int
    condition: RawSequences
    prompt: RawSequences


class Generator:
    """Lets models generate.

    Args:
        dataplane: The server's other behaviour; models and limits are its.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._limits = dataplane.limits
        self._clock = dataplane.clock

    async def generate(
        self,
        model: LoadedModel,
        start: GenerationInputs,
        steps: NDArray[np.uint32],
        sampling: Sampling,
        cancellation: CancellationToken,
        *,
        owner: str,
    ) -> AsyncGenerator[GeneratedPart]:
        """Generates from prompts and conditions; keeps nothing.

        Args:
            model: The version that generates.
            start: What rows read before they write.
            steps: Values that each row emits at most, uint32 [rows].
            sampling: How values are drawn.
            cancellation: Of the request; set as cancelled when nobody iterates any more.
            owner: Who asks.

        Raises:
            ServiceError: WRONG_CALL, BAD_TENSOR, BAD_REQUEST, BYTES_LIMIT, QUEUE_FULL, DRAINING; DEADLINE and
                CANCELLED, also after parts have been given.
        """
        self._limits.refuse_when_draining()
        received_s = self._clock()
        rows = start.rows
        self._limits.check_size(rows, None)
        generator = model.require_generator()
        codec = model.auxiliary.codec
        source = None
        condition = start.condition
        if model.auxiliary.encoder is not None:
            source = self._source(model, condition, rows)
            condition = RawSequences()
        prompts = tokenize_prompts(model.package.spec, codec, condition, start.prompt, rows=rows)
        time_steps = self._limits.check_size(rows, prompts.lengths + steps.astype(np.int64))
        failures = {**prompts.failures, **({} if source is None else source.failures)}
        if source is None or not generator.spec.graph:
            for row in np.flatnonzero(prompts.lengths == 0).tolist():
                failures.setdefault(row, "nothing to generate from: expected a prompt or a condition")
        good = np.setdiff1d(np.arange(rows), list(failures))
        good = good[np.argsort(prompts.lengths[good], kind="stable")]
        writer = TextWriter.of(codec, rows)
        channel = PartChannel()

        async def write(chosen: NDArray[np.intp]) -> None:
            state, well = await prompted_states(model, source, prompts, chosen, cancellation)
            channel.put_faults(chosen[~well])
            chosen = chosen[well]
            if len(chosen):
                await write_rows(
                    model,
                    chosen,
                    channel,
                    cancellation,
                    state=[array[well] for array in state],
                    positions=prompts.lengths[chosen].astype(np.uint64),
                    steps=steps[chosen],
                    sampling=sampling.rows(chosen),
                )

        work = model.scheduler.statistics.generate
        number = self._dataplane.table.owner_number(owner)
        with reserve_capacity(model, self._dataplane.undelivered, number, time_steps) as done:
            if failures:
                refused = [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in sorted(failures.items())]
                channel.put(GeneratedPart(None, failures=refused))
            for begin in range(0, len(good), _GROUP_ROWS):
                chosen = good[begin : begin + _GROUP_ROWS]
                share = int(prompts.lengths[chosen].sum(dtype=np.int64) + steps[chosen].sum(dtype=np.int64))
                channel.start(write(chosen), then=partial(done, share))
            try:
                async with aclosing(channel.parts()) as parts:
                    async for part in parts:
                        work.add(part.ended, part.emitted, part.failures)
                        yield with_text(part, writer)
            finally:
                cancellation.cancelled = True
                await channel.end()
        latency_s = self._clock() - received_s
        self._dataplane.answered("generate", model, latency_s, rows=rows, steps=time_steps)

    async def transduce(
        self, model: LoadedModel, raw: RawSequences, cancellation: CancellationToken, *, owner: str
    ) -> AsyncGenerator[GeneratedPart]:
        """Encodes sequences and lets the decoder say what follows, greedily, to its end; whole rows.

        Args:
            model: An encoder-decoder.
            raw: What the encoder reads; its lengths or texts tell the number of rows.
            cancellation: Of the request.
            owner: Who asks.

        Raises:
            ServiceError: as `generate`.
        """
        rows = len(raw.lengths if raw.lengths is not None else raw.text or ())
        limit = model.require_generator().spec.step_limit or _STEPS_WITHOUT_LIMIT
        steps = np.full(rows, limit, np.uint32)
        whole = WholeRows()
        start = GenerationInputs(rows, raw, RawSequences())
        said = self.generate(model, start, steps, Sampling.greedy(rows), cancellation, owner=owner)
        async with aclosing(said) as parts:
            async for part in parts:
                yield whole.add(part)

    async def encode(
        self, model: LoadedModel, raw: RawSequences, rows: int, cancellation: CancellationToken
    ) -> tuple[list[Array], dict[int, RowFailure]]:
        """The states that sessions of an encoder-decoder begin in, [rows, ...], and the rows that have none.

        Raises:
            ServiceError: WRONG_CALL where the model has no encoder; else as `generate`.
        """
        self._limits.refuse_when_draining()
        self._limits.check_size(rows, None)
        source = self._source(model, raw, rows)
        failures = {row: RowFailure(row, Reason.BAD_TENSOR, why) for row, why in source.failures.items()}
        good = np.setdiff1d(np.arange(rows), list(failures))
        state = model.arena.initial(rows)
        if len(good):
            encoded, well = await encoded_states(model, source, good, cancellation)
            for kept, array in zip(state, encoded, strict=True):
                kept[good] = array
            failures.update((row, model_fault(row)) for row in good[~well].tolist())
        return state, failures

    def _source(self, model: LoadedModel, raw: RawSequences, rows: int) -> TokenizedSequences:
        """What the encoder reads. Of rows that all fail there is nothing to check: each is told why."""
        source = encoder_input(model, raw, rows)
        if source.lengths.any():
            self._limits.check_size(rows, source.lengths)
        return source
