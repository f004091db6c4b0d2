"""Runs the rows of one request from where the prefix tree knows them, and joins what they give.

Rows that begin alike are computed once: one computes, the others wait for it and start behind it. A request
ends when all of its rows have, or with the first job that fails as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, RaggedColumns, ServiceError, offsets_in_rows
from statewise.service.scheduling.jobs._joined_results import JoinedResults
from statewise.service.scheduling.jobs._prefixed_row import PrefixedRow
from statewise.service.scheduling.jobs._sequence_job import Capture, ReachedState, SequenceJob
from statewise.service.scheduling.jobs._sequence_request import SequenceRequest
from statewise.service.scheduling.prefixes import PrefixTree, Reached, RowHash
from statewise.wire import ModelSpec

_number_of = attrgetter("number")


@dataclass(slots=True, eq=False)
class _Part:
    """Rows that run as one job.

    Attributes:
        rows: The rows.
        numbers: Their numbers, [rows].
        begins: Time steps of each that are not computed, [rows].
        job: The job, once it has ended well.
    """

    rows: list[PrefixedRow]
    numbers: Indices
    begins: NDArray[np.int64]
    job: SequenceJob | None = None


class PrefixedSequences:
    """A request some of whose rows are long enough to be looked up.

    Args:
        spec: Of the graph.
        request: The sequences.
        tree: What is known.
        count: Counts a row that was looked up, by the time steps that this saved.
        submit: Takes jobs.
        clock: Seconds, monotonic.
        woken: Called when rows that waited may run: `run_ready` is to be called soon.
        ended: Called before the request's `done`.
    """

    def __init__(
        self,
        spec: ModelSpec,
        request: SequenceRequest,
        tree: PrefixTree,
        *,
        count: Callable[[int], None],
        submit: Callable[[SequenceJob], None],
        clock: Callable[[], float],
        woken: "Callable[[PrefixedSequences], None]",
        ended: "Callable[[PrefixedSequences], None]",
    ) -> None:
        self.request = request
        self.begun_s = 0.0
        self.ended_s = 0.0
        self._spec = spec
        self._tree = tree
        self._count = count
        self._submit = submit
        self._clock = clock
        self._on_woken = woken
        self._on_ended = ended
        self._lengths = request.lengths.astype(np.int64)
        self._outputs = request.keeps_outputs and any(entry.per_step for entry in spec.outputs)
        self._rows: list[PrefixedRow] = []
        self._found: list[PrefixedRow] = []
        """Rows of which something was known."""
        self._waiting: set[PrefixedRow] = set()
        self._ready: list[PrefixedRow] = []
        self._parts: list[_Part] = []
        self._running = 0
        self._failure: ServiceError | None = None
        self._has_ended = False

    @property
    def is_waiting(self) -> bool:
        """Whether a row waits for a chunk that others compute."""
        return bool(self._waiting)

    def begin(self) -> None:
        """Looks all rows up, and runs those that need not wait."""
        begins = self.request.begins
        for number, steps in enumerate(self._lengths.tolist()):
            chunks = self._tree.chunks_of(steps) if begins is None or begins[number] else 0
            row_hash = self._hash_of(number, steps) if chunks else None
            row = PrefixedRow(
                number, steps, chunks, row_hash, self._tree, outputs=self._outputs, woken=self._wake
            )
            self._rows.append(row)
            self._ready.append(row)
        self.run_ready()

    def run_ready(self) -> None:
        """Looks up rows that are new or were woken, and runs those that need not wait."""
        # In the order of the request, not that of waking: the results of a job are in the order of its rows.
        ready, self._ready = sorted(self._ready, key=_number_of), []
        if self._failure is not None:
            ready = []
        computed: list[PrefixedRow] = []
        for row in ready:
            if not row.look_up():
                self._waiting.add(row)
                continue
            saved = self._tree.use(row.found)
            if row.is_looked_up:
                self._count(saved)
            if row.found:
                self._found.append(row)
            if saved < row.steps:
                computed.append(row)
        if computed:
            self._run(computed)
        self._end_if_done()

    def abandon(self, failure: ServiceError) -> None:
        """Ends the rows that wait. The request ends when those that run have ended, too."""
        self._failure = self._failure or failure
        given_up = [*self._waiting, *self._ready]
        self._waiting, self._ready = set(), []
        for row in given_up:
            row.release()
        self._end_if_done()

    def results(self) -> tuple[RaggedColumns, list[Array], NDArray[np.bool_]]:
        """See SequenceResults."""
        ended = [(part.numbers, part.begins, part.job) for part in self._parts if part.job is not None]
        if len(ended) == 1 and not self._found:
            return ended[0][2].results()  # all rows, in order
        joined = JoinedResults(self._spec, self.request.lengths)
        for row in self._found:
            joined.put_known(row.number, row.found, whole=row.begin == row.steps, outputs=self._outputs)
        for part in ended:
            joined.put_computed(*part)
        return joined.outputs, joined.state, joined.good

    # --- rows ---

    def _hash_of(self, number: int, steps: int) -> RowHash:
        inputs, rows = self.request.inputs, self.request.rows
        row = number if rows is None else int(rows[number])
        begin = int(inputs.starts[row])
        own = [
            array[begin : begin + steps] if entry.per_step else array[row]
            for array, entry in zip(inputs.arrays, inputs.tensors, strict=True)
        ]
        state = [array[number] for array in self.request.state]
        return self._tree.row_hash(own, state, owner=self.request.owner, steps=steps)

    def _wake(self, row: PrefixedRow) -> None:
        if row in self._waiting:
            self._waiting.discard(row)
            self._ready.append(row)
            self._on_woken(self)

    # --- jobs ---

    def _run(self, rows: list[PrefixedRow]) -> None:
        """Submits a job that computes what is not known of some rows."""
        request = self.request
        numbers = np.array([row.number for row in rows], np.intp)
        begins = np.array([row.begin for row in rows], np.int64)
        own = numbers if request.rows is None else request.rows[numbers]
        state = [array[numbers] for array in request.state]
        for place, row in enumerate(rows):
            if row.found:
                for whole, array in zip(state, row.found[-1].state or (), strict=True):
                    whole[place] = array
        inputs, places = request.inputs, own
        if begins.any():
            inputs, places = _without_beginnings(request.inputs, own, begins), np.arange(len(rows))
        part = _Part(rows, numbers, begins)
        job = SequenceJob(
            self._spec,
            inputs,
            places,
            state=state,
            done=partial(self._end_part, part),
            is_cancelled=request.is_cancelled,
            deadline_s=request.deadline_s,
            capture=self._capture(part),
        )
        job.received_s, job.span = request.received_s, request.span
        self._running += 1
        self._parts.append(part)
        self._submit(job)

    def _capture(self, part: _Part) -> Capture | None:
        wanted: dict[int, list[int]] = {}
        for place, row in enumerate(part.rows if self._tree.by_chunk else ()):
            for depth in row.captured:
                wanted.setdefault(depth * self._tree.chunk_steps - row.begin, []).append(place)
        return Capture(wanted, partial(self._reach, part.rows)) if wanted else None

    def _reach(self, rows: list[PrefixedRow], reached: ReachedState) -> None:
        """Keeps a state that a row has come to, and the outputs since the last one."""
        row, size = rows[reached.row], self._tree.chunk_steps
        steps = row.begin + reached.steps
        after = max([row.known_chunks, *(depth for depth in row.captured if depth * size < steps)])
        own = None
        if self._outputs:
            own = [array[after * size - row.begin :] for array in reached.outputs]
        row.reach(Reached(after, steps // size, steps, reached.state, reached.last, own))

    def _reach_ends(self, part: _Part, job: SequenceJob) -> None:
        """Keeps what whole rows gave."""
        outputs, state, good = job.results()
        last = [
            array for array, entry in zip(outputs.arrays, outputs.tensors, strict=True) if not entry.per_step
        ]
        for place, row in enumerate(part.rows):
            if good[place] and row.captured:
                own_state, own_last = ([array[place].copy() for array in arrays] for arrays in (state, last))
                row.reach(Reached(0, 1, row.steps, own_state, own_last, None))

    def _end_part(self, part: _Part, job: SequenceJob, failure: ServiceError | None) -> None:
        self.begun_s = min(self.begun_s or job.begun_s, job.begun_s or self.begun_s)
        self._running -= 1
        if failure is None:
            part.job = job
            job.done = _nothing  # a job that referred to its request would keep both in memory
            if not self._tree.by_chunk:
                self._reach_ends(part, job)
        else:
            self._failure = self._failure or failure
        for row in part.rows:
            row.release()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._has_ended or self._running or self._ready:
            return
        if self._waiting:
            if self._failure is not None:
                self.abandon(self._failure)
            return
        self._has_ended = True
        for row in self._rows:
            row.release()
        self._rows = []
        self.ended_s = self._clock()
        self.begun_s = self.begun_s or self.ended_s
        self._on_ended(self)
        self.request.done(self, self._failure)


def _nothing(_: SequenceJob, __: ServiceError | None) -> None:
    """Is the `done` of a job that has ended."""


def _without_beginnings(columns: RaggedColumns, rows: Indices, begins: NDArray[np.int64]) -> RaggedColumns:
    """Returns some rows without their first time steps."""
    assert columns.lengths is not None, "sequences have lengths"
    lengths = columns.lengths[rows].astype(np.int64) - begins
    elements = np.repeat(columns.starts[rows] + begins, lengths) + offsets_in_rows(lengths)
    arrays = [
        array[elements if entry.per_step else rows]
        for array, entry in zip(columns.arrays, columns.tensors, strict=True)
    ]
    return RaggedColumns(columns.tensors, arrays, lengths.astype(np.uint32))
