"""Sessions that generate, without transport.

Not requests without sessions (generator). From its turn until all of its rows have ended a request has its
sessions to itself; they move on once, at the end, so one that fails or is given up has changed nothing.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Handles
from statewise.service.dataplane._dataplane import Dataplane
from statewise.service.dataplane._emitted import GeneratedPart, with_text
from statewise.service.dataplane._initial_states import begins, claimed_states
from statewise.service.dataplane._job_calls import CancellationToken
from statewise.service.dataplane._part_channel import PartChannel, reserve_capacity, write_rows
from statewise.service.dataplane._session_lease import SessionLease, claim_sessions, settle_sessions
from statewise.service.engine import Sampling
from statewise.service.inputs import TextWriter
from statewise.service.registry import LoadedModel


class SessionGenerator:
    """Lets sessions generate.

    Args:
        dataplane: The server's other behaviour; models, sessions and limits are its.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._table = dataplane.table
        self._rules = dataplane.rules
        self._clock = dataplane.clock

    async def generate(
        self,
        handles: Handles,
        positions: NDArray[np.uint64],
        steps: NDArray[np.uint32],
        sampling: Callable[[int], Sampling],
        ticket: CancellationToken,
        *,
        owner: str,
    ) -> AsyncGenerator[GeneratedPart]:
        """Lets sessions of one model version emit; a row applies whole, once all have ended, or not at all.

        Args:
            handles: uint64 [rows].
            positions: Start positions, uint64 [rows].
            steps: As for `GeneratorGraph.steps`.
            sampling: Gives the settings of so many rows.
            ticket: Of the request; set as cancelled when nobody iterates any more.
            owner: Who asks.

        Raises:
            ServiceError: WRONG_CALL, BAD_REQUEST, BYTES_LIMIT, QUEUE_FULL, DRAINING; DEADLINE and CANCELLED,
                also after parts have been given, with nothing applied.
        """
        self._rules.refuse_when_draining()
        rows = len(handles)
        self._rules.check_columns(rows, len(positions))
        self._rules.check_size(rows, None)
        number = self._table.owner_number(owner)
        model = self._dataplane.model_of(handles, number)
        if model is None:
            pairs = zip(handles.tolist(), positions.tolist(), strict=True)
            failures = [self._table.explain(row, *pair, owner=number) for row, pair in enumerate(pairs)]
            yield GeneratedPart(None, failures=failures)
            return
        claim = SessionLease(
            handles, positions, number, model.require_generator().steps(steps, rows), sampling(rows)
        )
        async with aclosing(self._claimed(claim, model, ticket)) as parts:
            async for part in parts:
                yield part

    async def _claimed(
        self, claim: SessionLease, model: LoadedModel, ticket: CancellationToken
    ) -> AsyncGenerator[GeneratedPart]:
        received_s, rows = self._clock(), len(claim.handles)
        time_steps = self._rules.check_size(rows, claim.steps)
        writer = TextWriter.of(model.auxiliary.codec, rows)
        work = model.scheduler.statistics.generate
        flow = PartChannel()
        with reserve_capacity(model, self._dataplane.undelivered, claim.owner, time_steps) as done:
            try:
                await claim_sessions(claim, model, self._table, beginning=begins(model))
                if claim.failures:
                    failures = [claim.failures[row] for row in sorted(claim.failures)]
                    flow.put(GeneratedPart(None, failures=failures))
                if len(claim.rows):
                    state, start = await claimed_states(model, claim, ticket)
                    writing = write_rows(
                        model,
                        claim.rows,
                        flow,
                        ticket,
                        state=state,
                        positions=start,
                        steps=claim.steps[claim.rows],
                        sampling=claim.sampling.rows(claim.rows),
                    )
                    flow.start(writing, then=partial(done, time_steps))
                async with aclosing(flow.parts()) as parts:
                    async for part in parts:
                        work.add(part.ended, part.emitted, part.failures)
                        yield with_text(part, writer)
                for job in flow.results():
                    settle_sessions(claim, model, self._table, job, start)
            finally:
                ticket.cancelled = claim.withdrawn = True
                try:
                    await flow.end()
                finally:  # the caller may leave during this very wait
                    self._table.touch(claim.slots)
                    model.scheduler.release(claim.slots)
        latency_s = self._clock() - received_s
        self._dataplane.answered("generate", model, latency_s, rows=rows, steps=time_steps)
