"""Offers the operations on a session's state and checkpoints, in turn with those of `SessionCore`."""

from statewise.client.sessions import SessionCore
from statewise.client.states._state_requests import (
    create_checkpoint,
    delete_checkpoint,
    list_checkpoints,
    read_state,
    rewind_to_checkpoint,
    write_state,
)
from statewise.client.stream import Operation
from statewise.client.values import (
    MOST_WHOLE,
    Array,
    CheckpointInfo,
    by_part,
    check_place,
    check_text,
    check_whole,
    given_state,
)


def state_of(core: SessionCore) -> Operation[dict[str, Array]]:
    """Reads the state, by part."""

    def read() -> Operation[dict[str, Array]]:
        states = yield from read_state(core.remote)
        return {name: array[0] for name, array in by_part(core.model, states).items()}

    return core.in_turn(read())


def set_state_of(core: SessionCore, value: object, position: int | None) -> Operation[None]:
    """Writes the state, or some of it.

    Raises:
        InvalidInput: at once. The operation raises any StatewiseError.
    """
    given = given_state(core.model, value)
    if position is not None:
        check_whole("position", position, 0, MOST_WHOLE)
    return core.in_turn(write_state(core.remote, given, position))


def rewind_of(core: SessionCore, to: str | int | None) -> Operation[None]:
    """Undoes the last request, or goes to a position that is kept, or to a checkpoint."""
    if isinstance(to, str):
        check_text("to", to)
        return core.in_turn(rewind_to_checkpoint(core.remote, to))
    if to is not None:
        check_place(to)
    return core.rewind(to)


def checkpoint_of(core: SessionCore, name: str) -> Operation[CheckpointInfo]:
    """Keeps the present state under a name."""
    check_text("name", name)
    return core.in_turn(create_checkpoint(core.remote, name))


def checkpoints_of(core: SessionCore) -> Operation[list[CheckpointInfo]]:
    """Lists the states that are kept under names."""
    return core.in_turn(list_checkpoints(core.remote))


def delete_checkpoint_of(core: SessionCore, name: str) -> Operation[None]:
    """Drops a state that is kept under a name."""
    check_text("name", name)
    return core.in_turn(delete_checkpoint(core.remote, name))
