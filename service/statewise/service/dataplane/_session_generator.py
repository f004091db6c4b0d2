"""Generates with sessions, without transport: each row goes on from its session's state.

A request holds a lease on its sessions until all of its rows have ended. New states are committed at the end,
so a request that fails or is cancelled has changed nothing.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Handles
from statewise.service.dataplane._dataplane import Dataplane
from statewise.service.dataplane._initial_states import leased_states
from statewise.service.dataplane._session_lease import SessionLease, acquire_lease, commit_lease
from statewise.service.dataplane.delivery import (
    CancellationToken,
    GeneratedPart,
    PartChannel,
    SessionEnds,
    generate_rows,
    reserve_capacity,
    with_text,
)
from statewise.service.dataplane.durability import StoredReplies, moved_failure
from statewise.service.dataplane.states import lack_a_start, unchanged_states
from statewise.service.engine import Sampling
from statewise.service.inputs import TextWriter
from statewise.service.registry import LoadedModel
from statewise.service.scheduling import GenerationJob
from statewise.service.session_state import SessionTable


class SessionGenerator:
    """Generation with sessions.

    Args:
        dataplane: Gives models, sessions and limits.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._table = dataplane.table
        self._limits = dataplane.limits
        self._clock = dataplane.clock

    async def generate(
        self,
        handles: Handles,
        positions: NDArray[np.uint64],
        steps: NDArray[np.uint32],
        sampling: Callable[[int], Sampling],
        cancellation: CancellationToken,
        *,
        owner: str,
    ) -> AsyncGenerator[GeneratedPart]:
        """Generates with sessions of one model version.

        Once all rows have ended, each row that did not fail applies as a whole.

        Args:
            handles: uint64 [rows].
            positions: Start positions, uint64 [rows].
            steps: As for `GeneratorGraph.step_limits`.
            sampling: Gives the sampling options of that many rows.
            cancellation: The request's; cancelled when the iteration ends.
            owner: Name of the caller's owner.

        Raises:
            ServiceError: WRONG_CALL, BAD_REQUEST, BYTES_LIMIT, QUEUE_FULL, DRAINING, STORE_UNAVAILABLE;
                DEADLINE and CANCELLED, also after some parts; nothing was applied.
        """
        self._dataplane.sessions.refuse_changes()
        rows = len(handles)
        self._limits.check_columns(rows, len(positions))
        self._limits.check_size(rows, None)
        number = self._table.owner_number(owner)
        if (stored := self._dataplane.sessions.stored) is not None:
            handles = await stored.handles.awake(handles, number)
        model = self._dataplane.sessions.version_of(handles, number)
        if model is None:
            failures = self._dataplane.explain_rows(handles, positions, number)
            yield GeneratedPart(None, failures=failures)
            return
        lease = SessionLease(
            handles, positions, number, model.require_generator().step_limits(steps, rows), sampling(rows)
        )
        async with aclosing(self._generate_leased(lease, model, cancellation)) as parts:
            async for part in parts:
                yield part

    async def _generate_leased(
        self, lease: SessionLease, model: LoadedModel, cancellation: CancellationToken
    ) -> AsyncGenerator[GeneratedPart]:
        received_s, rows = self._clock(), len(lease.handles)
        time_steps = self._limits.check_size(rows, lease.steps)
        writer = TextWriter.of(model.auxiliary.codec, rows)
        work = model.scheduler.statistics.generate
        channel = PartChannel()
        with reserve_capacity(
            model, self._dataplane.undelivered, lease.owner, len(lease.handles), time_steps
        ) as release_steps:
            try:
                await acquire_lease(lease, model, self._table, lacking=partial(_lacking, model))
                if lease.failures:
                    failures = [lease.failures[row] for row in sorted(lease.failures)]
                    channel.put(GeneratedPart(None, failures=failures))
                if len(lease.rows):
                    state, start = await leased_states(model, lease, cancellation)
                    generation = generate_rows(
                        model,
                        lease.rows,
                        channel,
                        cancellation,
                        state=state,
                        positions=start,
                        steps=lease.steps[lease.rows],
                        sampling=lease.sampling.rows(lease.rows),
                    )
                    channel.start(generation, on_end=partial(release_steps, time_steps))
                async with aclosing(channel.parts()) as parts:
                    async for part in parts:
                        work.add(part.rows_ended, part.values_emitted, part.failures)
                        yield with_text(part, writer)
                for job in channel.results():
                    commit_lease(lease, model, self._table, job, start)
                    if (stored := self._dataplane.sessions.stored) is not None:
                        part = await _end_stored(lease, job, self._table, stored.replies)
                        work.add(0, 0, part.failures)
                        yield part
            finally:
                cancellation.cancelled = lease.abandoned = True
                try:
                    await channel.end()
                finally:  # the caller may cancel during this wait, too
                    self._table.touch(lease.slots)
                    model.scheduler.release_sessions(lease.slots)
        latency_s = self._clock() - received_s
        self._dataplane.record_answer("generate", model, latency_s, rows=rows, steps=time_steps)


def _lacking(model: LoadedModel, state: list[Array], positions: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if positions.all() and model.require_generator().spec.graph:
        return np.zeros(len(positions), np.bool_)
    return lack_a_start(model, positions, unchanged_states(model, state))


async def _end_stored(
    lease: SessionLease, job: GenerationJob, table: SessionTable, replies: StoredReplies
) -> GeneratedPart:
    """Returns, when the end may be told, where the rows stand, and which of them another server has.

    Raises:
        ServiceError: STORE_UNAVAILABLE.
    """
    done = np.ones(len(lease.rows), np.bool_)
    done[list(job.failed)] = False
    positions = table.positions_of(lease.slots)
    moved, durable_positions = await replies.settle_rows(lease.slots, positions)
    failures = [moved_failure(row) for row in lease.rows[done & moved].tolist()]
    done &= ~moved
    ends = SessionEnds(lease.rows[done], positions[done], durable_positions[done])
    return GeneratedPart(None, failures=failures, ends=ends)
