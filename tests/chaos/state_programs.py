"""Uses states of sessions as a client offers: kept requests, named checkpoints, states that are written.

Programs know from what they did where a session can go, so each run does the same.
"""

import numpy as np
from numpy.typing import NDArray
from tests.chaos.programs import Program, Run

from statewise.client import Session

KEEP = 8
NAMES = ("red", "green", "blue")


def kept_requests(run: Run) -> None:
    """A session that takes back up to eight requests, one after another or at once."""
    with run.client.session("steps", id=run.name, keep=KEEP) as session:
        starts: list[int] = []
        for _ in run.turns():
            starts = [*starts, session.position][-KEEP:]
            run.note(session.step(run.inputs(int(run.random.integers(1, 20)))), session)
            match int(run.random.integers(6)):
                case 0:
                    for _ in range(min(int(run.random.integers(1, 4)), len(starts))):
                        session.rewind()
                        assert session.position == starts.pop()
                case 1:
                    at = int(run.random.integers(len(starts)))
                    session.rewind(to=starts[at])
                    assert session.position == starts[at]
                    starts = starts[:at]


def named_checkpoints(run: Run) -> None:
    """A session that keeps states under names, goes back to them, copies and drops them."""
    with run.client.session("steps", id=run.name, keep=int(run.random.integers(1, 4))) as session:
        kept: dict[str, int] = {}
        for _ in run.turns():
            run.note(session.step(run.inputs(int(run.random.integers(1, 20)))), session)
            name = NAMES[int(run.random.integers(3))]
            what = int(run.random.integers(8))
            if what == 0 and name not in kept:
                kept[name] = session.checkpoint(name).position
            elif what == 1 and name in kept:
                session.rewind(to=name)
                assert session.position == kept[name]
            elif what == 2 and name in kept:
                _copy(run, session, name)
            elif what == 3:
                session.delete_checkpoint(name)
                kept.pop(name, None)
            elif what == 4:
                assert {one.name: one.position for one in session.checkpoints()} == kept
        for name in kept:
            _copy(run, session, name)


def _copy(run: Run, session: Session, name: str) -> None:
    """Notes what a copy of a checkpoint says next."""
    with session.fork(at=name) as twin:
        run.note(twin.step(run.inputs()), twin)


def given_states(run: Run) -> None:
    """A session whose state is read, and written in its own place or that of another session."""
    with run.client.session("steps", id=run.name) as session:
        for _ in run.turns():
            run.note(session.step(run.inputs(int(run.random.integers(1, 20)))), session)
            match int(run.random.integers(8)):
                case 0:
                    half = {name: array / 2 for name, array in _read(run, session).items()}
                    session.set_state(half, position=session.position + 5)
                case 1:
                    _begin_there(run, session)
                case 2:
                    session.rewind()


def _read(run: Run, session: Session) -> dict[str, NDArray[np.float32]]:
    """Reads and notes the state."""
    state = session.state()
    run.outputs += [array.copy() for _, array in sorted(state.items())]
    return state


def _begin_there(run: Run, session: Session) -> None:
    """Notes what a session says next that begins in the state of another one."""
    state = _read(run, session)
    with run.client.session("steps", state=state, position=session.position) as other:
        run.note(other.step(run.inputs()), other)


STATE_PROGRAMS: tuple[Program, ...] = (kept_requests, named_checkpoints, given_states)
