"""What the server does when it generates, without transport: for nobody, for sessions, and for an encoder's
sequences.

Not how values are made (feedback) nor when (scheduler). What rows emit is given away as it comes; a session's
state changes once, at the end, so a request that fails or is given up has changed nothing.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from statewise.service.beginnings import (
    begins,
    claimed_states,
    encoded_states,
    encoder_source,
    prompted_states,
)
from statewise.service.claims import Claim, claim_sessions, settle_sessions
from statewise.service.companions import Writing
from statewise.service.dataplane import Dataplane
from statewise.service.engine import Array
from statewise.service.errors import RowFailure, ServiceError, model_fault
from statewise.service.generated import GeneratedPart, WholeRows, with_text
from statewise.service.generation import Generation, Grown
from statewise.service.models import LoadedModel
from statewise.service.prompts import Given, read_prompts
from statewise.service.sampling import Sampling
from statewise.service.stages import Ticket, run
from statewise.service.table import Handles
from statewise.service.text import TextWriter
from statewise.wire import DTYPES, Reason

Lengths = NDArray[np.uint32]

_GROUP_ROWS = 256
"""Rows that are read and written together; beyond it a row costs the same."""
_STEPS_WITHOUT_LIMIT = 1024
"""Values after which Predict gives a row up that has not ended, where the model names no number."""


@dataclass(frozen=True, slots=True)
class Start:
    """Rows that begin without a session.

    Attributes:
        rows: How many.
        condition: One time step a row, or what the encoder reads.
        prompt: What is consumed after it.
    """

    rows: int
    condition: Given
    prompt: Given


class Generator:
    """Lets models generate.

    Args:
        dataplane: The server's other behaviour; models, sessions and limits are its.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._table = dataplane.table
        self._rules = dataplane.rules
        self._undelivered = dataplane.undelivered
        self._clock = dataplane.clock
        self._answered = dataplane.answered
        self._model_of = dataplane.model_of

    def steps(self, model: LoadedModel, steps: Lengths, rows: int) -> Lengths:
        """Values that each row emits at most.

        Args:
            model: The version that generates.
            steps: One number a row, one for all, or none: the model's own limit.
            rows: How many.

        Raises:
            ServiceError: WRONG_CALL, BAD_REQUEST.
        """
        limit = self._writing(model).spec.step_limit
        if not len(steps) and limit is not None:
            steps = np.array([limit], np.uint32)
        if len(steps) not in (1, rows):
            raise ServiceError(Reason.BAD_REQUEST, f"steps: expected 1 or {rows} numbers; got {len(steps)}")
        if not steps.all():
            raise ServiceError(Reason.BAD_REQUEST, "steps: expected at least 1 a row; got 0")
        return np.broadcast_to(steps, rows)

    # --- without sessions ---

    async def generate(
        self,
        model: LoadedModel,
        start: Start,
        steps: Lengths,
        sampling: Sampling,
        ticket: Ticket,
        *,
        owner: str,
    ) -> AsyncGenerator[GeneratedPart]:
        """Generates from prompts and conditions; keeps nothing.

        Args:
            model: The version that generates.
            start: What rows read before they write.
            steps: As `steps` gives them.
            sampling: How values are drawn.
            ticket: Of the request; set as cancelled when nobody iterates any more.
            owner: Who asks.

        Raises:
            ServiceError: WRONG_CALL, BAD_TENSOR, BAD_REQUEST, BYTES_LIMIT, QUEUE_FULL, DRAINING; DEADLINE and
                CANCELLED, also after parts have been given.
        """
        self._rules.refuse_when_draining()
        received_s = self._clock()
        rows = start.rows
        self._rules.check_size(rows, None)
        writing = self._writing(model)
        codec = model.companions.codec
        source = None
        condition = start.condition
        if model.companions.encoding is not None:
            source = encoder_source(model, condition, rows)
            self._rules.check_size(rows, source.lengths)
            condition = Given()
        prompts = read_prompts(model.package.spec, codec, condition, start.prompt, rows=rows)
        time_steps = self._rules.check_size(rows, prompts.lengths + steps.astype(np.int64))
        failures = {**prompts.failures, **({} if source is None else source.failures)}
        if source is None or not writing.spec.graph:
            for row in np.flatnonzero(prompts.lengths == 0).tolist():
                failures.setdefault(row, "nothing to generate from: expected a prompt or a condition")
        good = np.setdiff1d(np.arange(rows), list(failures))
        good = good[np.argsort(prompts.lengths[good], kind="stable")]
        writer = None if codec is None else TextWriter.of(codec, rows)
        parts: _Parts = asyncio.Queue()

        async def write(chosen: NDArray[np.intp]) -> None:
            state, well = await prompted_states(model, source, prompts, chosen, ticket)
            _put_faults(parts, chosen[~well])
            chosen = chosen[well]
            if len(chosen):
                await self._write(
                    model,
                    chosen,
                    state=[array[well] for array in state],
                    positions=prompts.lengths[chosen].astype(np.uint64),
                    steps=steps[chosen],
                    sampling=sampling.rows(chosen),
                    parts=parts,
                    ticket=ticket,
                )

        groups = [good[begin : begin + _GROUP_ROWS] for begin in range(0, len(good), _GROUP_ROWS)]
        work = model.scheduler.statistics.generate
        with self._holding(model, self._table.owner_number(owner), time_steps):
            refused = [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in sorted(failures.items())]
            if refused:
                parts.put_nowait(GeneratedPart(None, failures=refused))
            tasks = [asyncio.create_task(write(chosen)) for chosen in groups]
            try:
                async with aclosing(_until_done(parts, tasks)) as coming:
                    async for part in coming:
                        work.add(part.ended, part.emitted, part.failures)
                        yield with_text(part, writer)
            finally:
                ticket.cancelled = True
                await _end(tasks)
        self._answered("generate", model, self._clock() - received_s, rows=rows, steps=time_steps)

    async def transduce(
        self, model: LoadedModel, given: Given, ticket: Ticket, *, owner: str
    ) -> AsyncGenerator[GeneratedPart]:
        """Encodes sequences and lets the decoder say what follows, greedily, to its end; whole rows.

        Args:
            model: An encoder-decoder.
            given: What the encoder reads; its lengths or texts tell the number of rows.
            ticket: Of the request.
            owner: Who asks.

        Raises:
            ServiceError: as `generate`.
        """
        rows = len(given.lengths if given.lengths is not None else given.text or ())
        limit = self._writing(model).spec.step_limit or _STEPS_WITHOUT_LIMIT
        steps = np.full(rows, limit, np.uint32)
        whole = WholeRows()
        start = Start(rows, given, Given())
        parts = self.generate(model, start, steps, Sampling.greedy(rows), ticket, owner=owner)
        async with aclosing(parts) as grown:
            async for part in grown:
                yield whole.add(part)

    async def encode(
        self, model: LoadedModel, given: Given, rows: int, ticket: Ticket
    ) -> tuple[list[Array], dict[int, RowFailure]]:
        """The states that sessions of an encoder-decoder begin in, [rows, ...], and the rows that have none.

        Raises:
            ServiceError: WRONG_CALL where the model has no encoder; else as `generate`.
        """
        self._rules.refuse_when_draining()
        self._rules.check_size(rows, None)
        source = encoder_source(model, given, rows)
        self._rules.check_size(rows, source.lengths)
        failures = {row: RowFailure(row, Reason.BAD_TENSOR, why) for row, why in source.failures.items()}
        good = np.setdiff1d(np.arange(rows), list(failures))
        state = model.arena.initial(rows)
        if len(good):
            encoded, well = await encoded_states(model, source, good, ticket)
            for kept, array in zip(state, encoded, strict=True):
                kept[good] = array
            failures.update((row, model_fault(row)) for row in good[~well].tolist())
        return state, failures

    # --- sessions ---

    async def generate_sessions(
        self,
        handles: Handles,
        positions: NDArray[np.uint64],
        steps: Lengths,
        sampling: Callable[[int], Sampling],
        ticket: Ticket,
        *,
        owner: str,
    ) -> AsyncGenerator[GeneratedPart]:
        """Lets sessions of one model version emit; each applies whole, once all have ended, or not at all.

        Args:
            handles: uint64 [rows].
            positions: Start positions, uint64 [rows].
            steps: As for `steps`.
            sampling: Gives the settings of so many rows.
            ticket: As for `generate`.
            owner: Who asks.

        Raises:
            ServiceError: WRONG_CALL, BAD_REQUEST, BYTES_LIMIT, QUEUE_FULL, DRAINING; DEADLINE and CANCELLED,
                also after parts have been given, with nothing applied.
        """
        self._rules.refuse_when_draining()
        received_s = self._clock()
        rows = len(handles)
        self._rules.check_columns(rows, len(positions))
        self._rules.check_size(rows, None)
        number = self._table.owner_number(owner)
        model = self._model_of(handles, number)
        if model is None:
            pairs = zip(handles.tolist(), positions.tolist(), strict=True)
            failures = [self._table.explain(row, *pair, owner=number) for row, pair in enumerate(pairs)]
            yield GeneratedPart(None, failures=failures)
            return
        steps = self.steps(model, steps, rows)
        claim = Claim(handles, positions, number, steps, sampling(rows))
        time_steps = self._rules.check_size(rows, steps)
        codec = model.companions.codec
        writer = None if codec is None else TextWriter.of(codec, rows)
        work = model.scheduler.statistics.generate
        parts: _Parts = asyncio.Queue()
        tasks: list[asyncio.Task[Generation]] = []
        with self._holding(model, number, time_steps):
            try:
                await claim_sessions(claim, model, self._table, beginning=begins(model))
                if claim.failures:
                    failures = [claim.failures[row] for row in sorted(claim.failures)]
                    parts.put_nowait(GeneratedPart(None, failures=failures))
                if len(claim.rows):
                    state, start = await claimed_states(model, claim, ticket)
                    writing = self._write(
                        model,
                        claim.rows,
                        state=state,
                        positions=start,
                        steps=steps[claim.rows],
                        sampling=claim.sampling.rows(claim.rows),
                        parts=parts,
                        ticket=ticket,
                    )
                    tasks.append(asyncio.create_task(writing))
                async with aclosing(_until_done(parts, tasks)) as coming:
                    async for part in coming:
                        work.add(part.ended, part.emitted, part.failures)
                        yield with_text(part, writer)
                for task in tasks:
                    settle_sessions(claim, model, self._table, task.result(), start)
            finally:
                ticket.cancelled = claim.withdrawn = True
                await _end(tasks)
                self._table.touch(claim.slots)
                model.scheduler.release(claim.slots)
        self._answered("generate", model, self._clock() - received_s, rows=rows, steps=time_steps)

    # --- what the above share ---

    @contextmanager
    def _holding(self, model: LoadedModel, owner: int, time_steps: int) -> Iterator[None]:
        """Counts a request's time steps as waiting, and the values it may emit as not delivered.

        Raises:
            ServiceError: QUEUE_FULL, BYTES_LIMIT.
        """
        emitted = self._writing(model).spec.emitted
        size = time_steps * DTYPES[emitted.dtype].itemsize * math.prod(emitted.shape)
        with model.scheduler.holding(time_steps):
            self._undelivered.take(owner, size)
            try:
                yield
            finally:
                self._undelivered.give_back(owner, size)

    def _writing(self, model: LoadedModel) -> Writing:
        writing = model.companions.writing
        if writing is None:
            right = "step a session" if model.companions.encoding is not None else "use Predict"
            raise ServiceError(
                Reason.WRONG_CALL, f"model {model.package.name!r} does not generate: {right} instead"
            )
        return writing

    async def _write(
        self,
        model: LoadedModel,
        rows: NDArray[np.intp],
        *,
        state: Sequence[Array],
        positions: NDArray[np.uint64],
        steps: Lengths,
        sampling: Sampling,
        parts: "_Parts",
        ticket: Ticket,
    ) -> Generation:
        """Lets rows of a request emit, from given states, into a queue of parts."""
        writing = self._writing(model)

        def grew(grown: Grown) -> None:
            own = replace(grown, rows=rows[grown.rows])
            parts.put_nowait(GeneratedPart(own, writing.spec.emitted.name))

        make: Any = partial(
            Generation,
            writing.feedback,
            writing.test,
            state=state,
            positions=positions,
            steps=steps,
            sampling=sampling,
            stop=writing.stop,
            grew=grew,
        )
        job: Generation = await run(model.scheduler, make, ticket)
        _put_faults(parts, rows[sorted(job.failed)])
        return job


_Parts: TypeAlias = "asyncio.Queue[GeneratedPart | None]"
"""None stands for the end of a task."""
_Task: TypeAlias = "asyncio.Task[Any]"


def _put_faults(parts: _Parts, rows: NDArray[np.intp]) -> None:
    if len(rows):
        parts.put_nowait(GeneratedPart(None, failures=[model_fault(row) for row in rows.tolist()]))


async def _until_done(parts: _Parts, tasks: Sequence[_Task]) -> AsyncGenerator[GeneratedPart]:
    """Parts as they come until the tasks that give them have ended; raises the failure of one that failed."""
    for task in tasks:
        task.add_done_callback(lambda _: parts.put_nowait(None))
    running = len(tasks)
    while running or not parts.empty():
        part = await parts.get()
        if part is not None:
            yield part
            continue
        running -= 1
        for task in tasks:
            if task.done():
                task.result()


async def _end(tasks: Sequence[_Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
