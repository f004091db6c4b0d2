"""What the server does, without transport: predict, and open, step, resume and close sessions.

Not gRPC: servicers convert, call this, convert back. Whoever calls has an owner's name; nobody finds another
owner's sessions. A request that is refused has changed nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.service.buckets import buckets_of_like_length
from statewise.service.engine import Array
from statewise.service.errors import RowFailure, ServiceError
from statewise.service.frame import Control, StepFrame, StepResult
from statewise.service.inputs import arrange_inputs, invalid_rows
from statewise.service.job import Job
from statewise.service.models import LoadedModel, Models
from statewise.service.ragged import elements_of
from statewise.service.settings import Settings
from statewise.service.table import Handles, SessionTable, SessionView
from statewise.wire import ModelSpec, Reason

_LONGEST_ID_BYTES = 128
_T = TypeVar("_T")

Lengths = NDArray[np.uint32]
Reply = Callable[[StepResult | ServiceError], None]
_Finished = tuple[NDArray[np.intp], Job, ServiceError | None]


@dataclass(frozen=True, slots=True)
class PredictPart:
    """Some rows of a prediction.

    Attributes:
        rows: Indices into the request, those that succeeded.
        lengths: Their time steps.
        outputs: In the spec's order, in the order of `rows`: per-step [sum(lengths), ...], others [rows,
            ...]. failures: Rows that failed.
    """

    rows: NDArray[np.intp]
    lengths: Lengths
    outputs: Sequence[Array]
    failures: Sequence[RowFailure]


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that a request opened or took over."""

    view: SessionView
    model: LoadedModel
    created: bool


class Dataplane:
    """The server's behaviour.

    Args:
        models: What is served.
        table: The sessions.
        settings: Limits.
        clock: Seconds, monotonic; deadlines are on it.
    """

    def __init__(
        self, models: Models, table: SessionTable, settings: Settings, *, clock: Callable[[], float]
    ) -> None:
        self.models = models
        self.table = table
        self.settings = settings
        self.clock = clock
        self.draining = False
        """Set when the server goes away: what is new is refused, what is under way goes on."""

    # --- whole sequences ---

    async def predict(
        self,
        model: LoadedModel,
        lengths: Lengths,
        inputs: Mapping[str, Array],
        *,
        deadline_s: float | None,
    ) -> AsyncIterator[PredictPart]:
        """Runs sequences from the initial state. Every row is in exactly one part.

        Args:
            model: The version that runs them.
            lengths: Time steps of each row.
            inputs: By name: per-step [sum(lengths), ...], others [rows, ...].
            deadline_s: Rows that have not run by then fail (DEADLINE); None: none.

        Raises:
            ServiceError: BAD_TENSOR, BYTES_LIMIT, QUEUE_FULL, DRAINING.
        """
        self._refuse_when_draining()
        time_steps = self._check_size(len(lengths), lengths)
        spec = model.package.spec
        arranged = arrange_inputs(spec, inputs, rows=len(lengths), time_steps=time_steps)
        model.scheduler.check_room(time_steps)
        invalid = invalid_rows(spec, arranged, lengths)
        if invalid:
            yield _failures_alone(
                [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in sorted(invalid.items())]
            )
        good = np.setdiff1d(np.arange(len(lengths)), list(invalid))
        finished: asyncio.Queue[_Finished] = asyncio.Queue()
        left = False
        buckets = list(buckets_of_like_length(good, lengths))
        for rows in buckets:
            elements = elements_of(rows, lengths)
            job = Job(
                spec,
                inputs=[
                    array[elements if entry.per_step else rows]
                    for array, entry in zip(arranged, spec.inputs, strict=True)
                ],
                lengths=lengths[rows],
                state=model.arena.initial(len(rows)),
                done=partial(_put, finished, rows),
                is_cancelled=lambda: left,
                deadline_s=deadline_s,
            )
            model.scheduler.submit_job(job)
        try:
            for _ in buckets:
                yield _part(*await finished.get(), lengths, spec)
        finally:
            left = True

    # --- steps ---

    def step(
        self,
        handles: Handles,
        positions: NDArray[np.uint64],
        steps: Lengths | None,
        inputs: Mapping[str, Array],
        *,
        owner: str,
        deadline_s: float | None,
        reply: Reply,
    ) -> StepFrame | None:
        """Asks for sessions of one model version to be advanced; `reply` gets the result, exactly once.

        Args:
            handles: uint64 [rows].
            positions: Start positions, uint64 [rows].
            steps: Time steps of each row, uint32 [rows]; None: 1 each.
            inputs: By name: per-step [sum(steps), ...], others [rows, ...].
            owner: Who asks.
            deadline_s: Rows not begun by then fail (DEADLINE); None: none.
            reply: Takes the result.

        Returns:
            The frame, to cancel it by; None where it has been answered already.

        Raises:
            ServiceError: the request as a whole is refused, and `reply` is not called.
        """
        self._refuse_when_draining()
        rows = len(handles)
        if len(positions) != rows or (steps is not None and len(steps) != rows):
            counts = [rows, len(positions), *(() if steps is None else (len(steps),))]
            raise ServiceError(Reason.BAD_REQUEST, f"expected columns of equal length; got {counts} rows")
        time_steps = self._check_size(rows, steps)
        number = self.table.owner_number(owner)
        model = self._model_of(handles)
        if model is None:
            failures = [
                self.table.explain(row, handle, position, owner=number)
                for row, (handle, position) in enumerate(
                    zip(handles.tolist(), positions.tolist(), strict=True)
                )
            ]
            reply(StepResult({}, failures))
            return None
        arranged = arrange_inputs(model.package.spec, inputs, rows=rows, time_steps=time_steps)
        frame = StepFrame(handles, positions, steps, arranged, number, deadline_s, reply)
        model.scheduler.submit(frame)
        return frame

    # --- sessions ---

    async def open(
        self, name: str, version: int, session_ids: Sequence[str], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Opens sessions at position 0; an id that is open with the same model is taken over as it stands.

        Raises:
            ServiceError: MODEL_NOT_FOUND, NOT_STREAMABLE, BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._refuse_when_draining()
        model = self.models.find(name, version)
        if not model.package.spec.streamable:
            raise ServiceError(
                Reason.NOT_STREAMABLE, f"model {name!r} keeps no state between calls: use Predict instead"
            )
        self._check_ids(session_ids)
        number = self.table.owner_number(owner)
        created: dict[int, int] = {}
        failures: dict[int, RowFailure] = {}
        existing: dict[int, int] = {}
        for row, session_id in enumerate(session_ids):
            slot = self.table.find(number, session_id)
            if slot is None:
                try:
                    created[row] = self._create(model, number, session_id)
                except ServiceError as error:
                    failures[row] = RowFailure(row, error.reason, error.message)
            elif self._is_of(slot, name, version):
                existing[row] = slot
            else:
                held = self.models[self.table.model_of(slot)].package
                failures[row] = RowFailure(
                    row,
                    Reason.SESSION_EXISTS,
                    f"session {session_id!r} is open with model {held.name!r} version {held.version}",
                )
        opened = {row: self._opened(slot, created=True) for row, slot in created.items()}
        taken, gone = await self._take_over(existing, session_ids, number)
        opened.update(taken)
        failures.update(gone)
        return _in_order(opened), _in_order(failures)

    async def resume(
        self, session_ids: Sequence[str], *, owner: str
    ) -> tuple[list[OpenedSession], list[RowFailure]]:
        """Takes sessions over as they stand; handles given before are void from then on.

        Raises:
            ServiceError: BAD_REQUEST, BYTES_LIMIT, DRAINING.
        """
        self._refuse_when_draining()
        self._check_ids(session_ids)
        number = self.table.owner_number(owner)
        found = {row: self.table.find(number, session_id) for row, session_id in enumerate(session_ids)}
        existing = {row: slot for row, slot in found.items() if slot is not None}
        failures = {row: _not_open(row, session_ids[row]) for row, slot in found.items() if slot is None}
        taken, gone = await self._take_over(existing, session_ids, number)
        return _in_order(taken), _in_order({**failures, **gone})

    async def close(self, handles: Handles, *, owner: str) -> list[RowFailure]:
        """Ends sessions. Those that have ended already are no failure; void handles are (SESSION_MOVED)."""
        self._check_size(len(handles), None)
        number = self.table.owner_number(owner)
        failures: dict[int, RowFailure] = {}
        slots = dict(enumerate(self.table.slots_of(handles).tolist()))

        def end(row: int, slot: int) -> None:
            failure = self.table.refusal(row, int(handles[row]), owner=number)
            if failure is None:
                self._end(slot)
            elif failure.reason is Reason.SESSION_MOVED:
                failures[row] = failure

        await self._in_turn(slots, end)
        return _in_order(failures)

    def list_sessions(
        self, *, owner: str, start: int, size: int, model: str
    ) -> tuple[list[OpenedSession], int | None]:
        """A page of the owner's sessions, and where the next one starts (None: nowhere)."""
        numbers = [loaded.number for loaded in self.models if not model or loaded.package.name == model]
        slots, following = self.table.page(start, size, owner=self.table.owner_number(owner), models=numbers)
        return [self._opened(slot, created=False) for slot in slots], following

    def get_session(self, session_id: str, *, owner: str) -> OpenedSession:
        """One session. Raises ServiceError (SESSION_NOT_FOUND)."""
        return self._opened(self._find(session_id, owner), created=False)

    async def close_by_id(self, session_id: str, *, owner: str) -> None:
        """Ends a session, whoever holds its handle. Raises ServiceError (SESSION_NOT_FOUND)."""
        number = self.table.owner_number(owner)

        def end(_: int, slot: int) -> None:
            if self.table.find(number, session_id) == slot:
                self._end(slot)

        await self._in_turn({0: self._find(session_id, owner)}, end)

    # --- what the above share ---

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise ServiceError(Reason.DRAINING, "the server is shutting down; connect to another one")

    def _check_size(self, rows: int, steps: Lengths | None) -> int:
        """The request's time steps, where they and its rows are within the limits."""
        if rows == 0:
            raise ServiceError(Reason.BAD_TENSOR, "the request has no rows; expected at least one")
        if rows > self.settings.request_rows:
            raise ServiceError(
                Reason.BYTES_LIMIT,
                f"expected at most {self.settings.request_rows} rows a request; got {rows}",
            )
        time_steps = rows if steps is None else int(steps.sum(dtype=np.int64))
        if time_steps == 0:
            raise ServiceError(Reason.BAD_TENSOR, "every row has 0 time steps; expected at least 1")
        if time_steps > self.settings.request_steps:
            limit = self.settings.request_steps
            raise ServiceError(
                Reason.BYTES_LIMIT, f"expected at most {limit} time steps a request; got {time_steps}"
            )
        return time_steps

    def _check_ids(self, session_ids: Sequence[str]) -> None:
        self._check_size(len(session_ids), None)
        for session_id in session_ids:
            if not (session_id.isprintable() and 1 <= len(session_id.encode()) <= _LONGEST_ID_BYTES):
                raise ServiceError(
                    Reason.BAD_REQUEST,
                    f"expected ids of 1 to {_LONGEST_ID_BYTES} printable bytes; got {session_id[:160]!r}",
                )
        if len(set(session_ids)) != len(session_ids):
            raise ServiceError(Reason.BAD_REQUEST, "a session id stands twice in the request")

    def _model_of(self, handles: Handles) -> LoadedModel | None:
        """The one version that all handles in force belong to; None: none is in force. Refuses repeats."""
        if len(handles) == 1:
            number = self.table.model_of_handle(int(handles[0]))
            return None if number is None else self.models[number]
        slots = self.table.slots_of(handles)
        if self.table.has_repeats(slots) and len(np.unique(handles)) != len(handles):
            raise ServiceError(Reason.BAD_REQUEST, "a handle stands twice; a frame advances a session once")
        numbers = self.table.models_of(slots)[self.table.in_force(handles, slots)]
        if len(numbers) == 0:
            return None
        if (numbers != numbers[0]).any():
            raise ServiceError(
                Reason.BAD_REQUEST, "the sessions are of different models or versions; send a frame for each"
            )
        return self.models[int(numbers[0])]

    def _is_of(self, slot: int, name: str, version: int) -> bool:
        held = self.models[self.table.model_of(slot)].package
        return held.name == name and version in (0, held.version)

    def _find(self, session_id: str, owner: str) -> int:
        slot = self.table.find(self.table.owner_number(owner), session_id)
        if slot is None:
            failure = _not_open(0, session_id)
            raise ServiceError(failure.reason, failure.message)
        return slot

    def _create(self, model: LoadedModel, owner: int, session_id: str) -> int:
        if self.table.is_full:
            raise ServiceError(
                Reason.SESSION_LIMIT, f"{len(self.table)} sessions are open, as many as may be"
            )
        used = sum(loaded.arena.used_rows * loaded.arena.bytes_per_session for loaded in self.models)
        if used + model.arena.bytes_per_session > self.settings.state_bytes:
            raise ServiceError(
                Reason.BYTES_LIMIT, f"the sessions' state fills {used} of {self.settings.state_bytes} bytes"
            )
        return self.table.add(owner, session_id, model=model.number, row=model.arena.take_row())

    def _end(self, slot: int) -> None:
        model = self.models[self.table.model_of(slot)]
        model.arena.give_back(self.table.remove(slot))

    def _opened(self, slot: int, *, created: bool) -> OpenedSession:
        return OpenedSession(self.table.view(slot), self.models[self.table.model_of(slot)], created)

    async def _take_over(
        self, existing: Mapping[int, int], session_ids: Sequence[str], owner: int
    ) -> tuple[dict[int, OpenedSession], dict[int, RowFailure]]:
        """New handles for sessions, each after what was asked of it before."""
        taken: dict[int, OpenedSession] = {}
        gone: dict[int, RowFailure] = {}

        def take(row: int, slot: int) -> None:
            if self.table.find(owner, session_ids[row]) == slot:
                self.table.take_over(slot)
                taken[row] = self._opened(slot, created=False)
            else:
                gone[row] = _not_open(row, session_ids[row])

        await self._in_turn(existing, take)
        return taken, gone

    async def _in_turn(self, slots: Mapping[int, int], action: Callable[[int, int], None]) -> None:
        """Calls `action(row, slot)` for sessions once nothing asked of them before is waiting or running."""
        by_model: dict[int, list[tuple[int, int]]] = {}
        for row, slot in slots.items():
            by_model.setdefault(self.table.model_of(slot), []).append((row, slot))
        await asyncio.gather(
            *(self._in_turn_of(self.models[number], pairs, action) for number, pairs in by_model.items())
        )

    async def _in_turn_of(
        self, model: LoadedModel, pairs: list[tuple[int, int]], action: Callable[[int, int], None]
    ) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def act() -> None:
            try:
                for row, slot in pairs:
                    action(row, slot)
            except Exception as error:
                if not turn.done():
                    turn.set_exception(error)
            else:
                if not turn.done():
                    turn.set_result(None)

        model.scheduler.submit_control(Control(np.array([slot for _, slot in pairs], np.intp), act))
        await turn


def _not_open(row: int, session_id: str) -> RowFailure:
    return RowFailure(row, Reason.SESSION_NOT_FOUND, f"no session {session_id!r} is open")


def _failures_alone(failures: Sequence[RowFailure]) -> PredictPart:
    return PredictPart(np.empty(0, np.intp), np.empty(0, np.uint32), (), failures)


def _part(
    rows: NDArray[np.intp], job: Job, failure: ServiceError | None, lengths: Lengths, spec: ModelSpec
) -> PredictPart:
    if failure is not None:
        return _failures_alone([RowFailure(row, failure.reason, failure.message) for row in rows.tolist()])
    outputs, _, good = job.results()
    if good.all():
        return PredictPart(rows, lengths[rows], outputs, ())
    by_step = np.repeat(good, lengths[rows])
    kept = [
        array[by_step if entry.per_step else good] for array, entry in zip(outputs, spec.outputs, strict=True)
    ]
    failures = [
        RowFailure(row, Reason.INTERNAL, "the model failed on this row") for row in rows[~good].tolist()
    ]
    return PredictPart(rows[good], lengths[rows][good], kept, failures)


def _put(
    finished: asyncio.Queue[_Finished], rows: NDArray[np.intp], job: Job, failure: ServiceError | None
) -> None:
    finished.put_nowait((rows, job, failure))


def _in_order(by_row: Mapping[int, _T]) -> list[_T]:
    return [by_row[row] for row in sorted(by_row)]
