"""Offers the operations on the states and checkpoints of a group's sessions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.groups._group_core import GroupCore
from statewise.client.groups._row_operations import RowOperation, checked, run_on_rows
from statewise.client.groups._row_origins import origins_of
from statewise.client.groups._row_turns import Index
from statewise.client.requests import GivenStates, read_positions
from statewise.client.sessions import (
    GoToCheckpoint,
    RemoteSession,
    StateChange,
    WriteState,
    change_state,
    rewind_session,
)
from statewise.client.states import create_checkpoint, delete_checkpoint, list_checkpoints, read_state
from statewise.client.stream import Operation
from statewise.client.values import (
    Array,
    CheckpointInfo,
    GivenState,
    NotImplementedByServer,
    StatewiseError,
    Subject,
    by_part,
    check_place,
    check_states_known,
    check_text,
    given_state,
    merged_state,
    missing_states,
    read_checkpoint,
    read_states,
)
from statewise.v1 import sequence_pb2
from statewise.wire import Reason, pack_uint64

Positions = NDArray[np.uint64]

# A row of a reply: id, handle, digest and names, or a checkpoint.
_ROW_BYTES = 512


def states_of_rows(core: GroupCore, index: object) -> Operation[dict[str, Array]]:
    """Reads the states of sessions, by part: [N, ...]."""
    rows = core.choose(index)
    check_states_known(core.model)

    def read() -> Operation[dict[str, Array]]:
        return by_part(core.model, _joined(checked((yield from _read(core, rows)))))

    return core.in_turn(rows, read())


def set_states_of_rows(core: GroupCore, value: object, position: object, index: object) -> Operation[None]:
    """Writes states, one for all sessions or one each; what is not given stays as it is.

    Raises:
        InvalidInput: at once. The operation raises PartialFailure or any StatewiseError.
    """
    rows = core.choose(index)
    given = given_state(core.model, value, count=len(rows))
    positions = None if position is None else read_positions(position, len(rows))
    return core.in_turn(rows, _write_some(core, rows, given, positions))


def checkpoint_of_rows(core: GroupCore, name: str, index: object) -> Operation[list[CheckpointInfo]]:
    """Keeps the present states of sessions under one name."""
    rows = core.choose(index)
    check_text("name", name)

    def request(some: Index) -> Any:
        positions = pack_uint64(core.remote.positions[some])
        return sequence_pb2.CreateCheckpointsRequest(names=[name], positions=positions)

    operation = RowOperation(
        "create_checkpoints",
        request,
        lambda reply, count: [read_checkpoint(checkpoint) for checkpoint in reply.checkpoints],
        lambda session, row: create_checkpoint(session, name),
    )
    return core.in_turn(rows, _checked(_run(core, rows, operation)))


def checkpoints_of_rows(core: GroupCore, index: object) -> Operation[list[list[CheckpointInfo]]]:
    """Lists the states of sessions that are kept under names."""
    rows = core.choose(index)
    operation = RowOperation(
        "list_checkpoints",
        lambda some: sequence_pb2.ListCheckpointsRequest(),
        lambda reply, count: [list(map(read_checkpoint, one.checkpoints)) for one in reply.sessions],
        lambda session, row: list_checkpoints(session),
    )
    return core.in_turn(rows, _checked(_run(core, rows, operation)))


def delete_checkpoint_of_rows(core: GroupCore, name: str, index: object) -> Operation[None]:
    """Drops the states of sessions that are kept under a name."""
    rows = core.choose(index)
    check_text("name", name)
    operation = RowOperation(
        "delete_checkpoints",
        lambda some: sequence_pb2.DeleteCheckpointsRequest(names=[name]),
        lambda reply, count: [None] * count,
        lambda session, row: delete_checkpoint(session, name),
    )
    return core.in_turn(rows, _without_result(_run(core, rows, operation)))


def rewind_rows(core: GroupCore, to: str | int | None, index: object) -> Operation[None]:
    """Undoes the last request of each session, or takes all to a position, or to a checkpoint of each."""
    rows = core.choose(index)
    if isinstance(to, str):
        check_text("to", to)
        return core.in_turn(rows, _to_checkpoint(core, rows, to))
    if to is not None:
        check_place(to)
    return core.in_turn(rows, _rewind(core, rows, to))


def _checked(operation: Operation[list[Any]]) -> Operation[list[Any]]:
    return checked((yield from operation))


def _without_result(operation: Operation[list[Any]]) -> Operation[None]:
    checked((yield from operation))


def _run(
    core: GroupCore,
    rows: Index,
    operation: RowOperation,
    *,
    apart: Collection[int] = (),
    checkpoints: bool = True,
    row_bytes: int = 0,
) -> Operation[list[Any]]:
    if checkpoints and not core.remote.kept.keeps[rows].all():
        raise NotImplementedByServer("the server is older than checkpoints")
    limits = core.request_limits
    most = max(1, min(limits.rows, limits.bytes // (row_bytes + _ROW_BYTES)))
    return (
        yield from run_on_rows(
            core.multiplexer,
            core.remote,
            operation,
            rows,
            most=most,
            subject=Subject("", core.model.name, core.model.version),
            apart=apart,
        )
    )


def _read(core: GroupCore, rows: Index) -> Operation[list[Any]]:
    """Returns the whole states of each row, [1, ...] by name, or its error."""

    def results(reply: sequence_pb2.ReadStatesResponse, count: int) -> list[dict[str, Array]]:
        states = read_states(core.model, reply.state, count)
        return [{name: array[row : row + 1] for name, array in states.items()} for row in range(count)]

    operation = RowOperation(
        "read_states",
        lambda some: sequence_pb2.ReadStatesRequest(),
        results,
        lambda session, row: read_state(session),
    )
    state_bytes = core.model.state_bytes
    return (yield from _run(core, rows, operation, checkpoints=False, row_bytes=state_bytes))


def _joined(states: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Joins the states of rows to [rows, ...] by name."""
    return {name: np.concatenate([one[name] for one in states]) for name in states[0]}


def _good(results: Sequence[Any]) -> NDArray[np.bool_]:
    """Returns which rows did not fail."""
    return np.array([not isinstance(result, StatewiseError) for result in results], np.bool_)


def _write_some(
    core: GroupCore, rows: Index, given: GivenState, positions: Positions | None
) -> Operation[None]:
    """Writes what is given, and reads the rest of each state before; rows that cannot be read fail alone."""
    new = core.remote.positions[rows] if positions is None else np.broadcast_to(positions, len(rows))
    if not missing_states(core.model, given):
        checked((yield from _write(core, rows, merged_state(core.model, given, {}), new)))
        return
    results = yield from _read(core, rows)
    good = np.flatnonzero(_good(results))
    if len(good):
        rest = _joined([results[place] for place in good.tolist()])
        whole = merged_state(core.model, given.of_rows(good), rest)
        written = yield from _write(core, rows[good], whole, new[good])
        for place, result in zip(good.tolist(), written, strict=True):
            results[place] = result
    checked(results)


def _write(core: GroupCore, rows: Index, whole: GivenState, new: Positions) -> Operation[list[Any]]:
    places = {row: place for place, row in enumerate(rows.tolist())}

    def given_to(some: Index) -> GivenStates:
        chosen = np.array([places[row] for row in some.tolist()], np.intp)
        return GivenStates(core.model, whole.of_rows(chosen), new[chosen])

    def request(some: Index) -> Any:
        states = given_to(some)
        request = sequence_pb2.WriteStatesRequest(
            positions=pack_uint64(core.remote.positions[some]), new_positions=pack_uint64(states.positions)
        )
        states.state.fill(request.state, 0, len(some))
        return request

    def change(row: int) -> WriteState:
        states = given_to(np.array([row]))
        return WriteState(states.state, int(states.positions[0]))

    def applied(some: Index, sessions: Any) -> None:
        core.remote.changed(some, sessions, origins_of(given_to(some)))

    operation = _changing("write_states", request, change, applied)
    row_bytes = core.model.state_bytes
    return (yield from _run(core, rows, operation, checkpoints=False, row_bytes=row_bytes))


def _to_checkpoint(core: GroupCore, rows: Index, name: str) -> Operation[None]:
    """Takes sessions to their checkpoints; where no store would have these states, reads them."""
    operation = _changing(
        "rewind",
        lambda some: sequence_pb2.RewindSessionsRequest(checkpoints=[name]),
        lambda row: GoToCheckpoint(name),
        lambda some, sessions: core.remote.changed(some, sessions, None),
    )
    results = yield from _run(core, rows, operation)
    gone = rows[_good(results)]
    if len(gone) and not core.remote.journal.keeps_tail:
        read = yield from _read(core, gone)
        known = gone[_good(read)]
        if len(known):
            state = GivenState(_joined([each for each in read if not isinstance(each, StatewiseError)]))
            origins = origins_of(GivenStates(core.model, state, core.remote.positions[known]))
            core.remote.begin_from(known, origins)
    checked(results)


def _changing(
    name: str,
    request: Callable[[Index], Any],
    change: Callable[[int], StateChange],
    applied: Callable[[Index, Any], None],
) -> RowOperation:
    """Returns the operation that gives rows other states."""

    def alone(session: RemoteSession, row: int) -> Operation[None]:
        return change_state(session, change(row))

    def doubted(session: RemoteSession, row: int) -> None:
        session.uncertain_change = change(row)

    return RowOperation(
        name, request, lambda reply, count: list(reply.sessions), alone, applied, doubted, resolves=True
    )


def _rewind(core: GroupCore, rows: Index, to: int | None) -> Operation[None]:
    kept = core.remote.kept

    def targets(some: Index) -> Positions:
        return kept.latest(some) if to is None else np.full(len(some), to, np.uint64)

    def alone(session: RemoteSession, row: int) -> Operation[None]:
        return rewind_session(session, to)

    def doubted(session: RemoteSession, row: int) -> None:
        session.uncertain_rewind = int(targets(np.array([row]))[0])
        session.needs_replay = True

    operation = RowOperation(
        "rewind",
        lambda some: sequence_pb2.RewindSessionsRequest(positions=pack_uint64(targets(some))),
        lambda reply, count: list(reply.sessions),
        alone,
        core.remote.rewound,
        doubted,
        resolves=True,
        not_together=(Reason.POSITION_MISMATCH,),
    )
    none = kept.none_among(rows) if to is None else ~kept.hold(rows, targets(rows))
    apart = [*rows[none].tolist(), *core.remote.uncertain_rewinds]
    checked((yield from _run(core, rows, operation, apart=apart, checkpoints=False)))
