"""A single time step of a single session, without an operation where nothing is out of the ordinary.

A gateway makes so many of these that generators, and Python's garbage collector looking at them, would be
most of their cost.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from statewise.client.sessions._journal import Inputs
from statewise.client.stream._effects import Drive, Operation
from statewise.client.stream._step_batcher import Lane, Outputs
from statewise.client.values._outputs import Value, of_step
from statewise.client.values._status import Failed

if TYPE_CHECKING:
    from statewise.client.sessions._session_core import SessionCore


class OneStep:
    """One time step, from the asking to its result: something under way and a row of a frame in one.

    Usually it joins the lane at once, and the reply settles its future. An operation goes on for it where it
    has to wait for its turn, and where it failed.

    Args:
        session: which is to advance.
        lane: where it gathers.
        payload: the inputs.
    """

    __slots__ = ("_drive", "_lane", "_session", "future", "handle", "origin", "payload", "position")
    steps: ClassVar[int] = 1

    def __init__(self, session: "SessionCore", lane: Lane, payload: Inputs) -> None:
        self._session = session
        self._lane = lane
        self._drive: Drive[Value] | None = None
        self.payload = payload
        self.future: Any = None
        self.origin: Any = None

    # As something under way.

    def begin(self) -> None:
        """See `UnderWay`."""
        session = self._session
        if session.take_turn():
            incarnation = session.incarnation
            self.handle = incarnation.handle
            self.position = incarnation.position
            self._lane.add(self)
        else:
            self._go_on_as(session.one_step(self.payload, self._lane))

    def close(self) -> None:
        """See `UnderWay`."""

    def withdraw(self) -> None:
        """See `UnderWay`."""
        if self._drive is not None:
            self._drive.withdraw()
        elif self._lane.remove(self):
            self._session.end_turn()

    # As a row.

    def answered(self, outputs: Outputs, durable_position: int) -> None:
        """See `Row`."""
        session = self._session
        session.incarnation.applied(1, self.payload, durable_position)
        session.end_turn()
        if not self.future.done():
            self.future.set_result(of_step(self._lane.model, outputs))

    def failed(self, failed: Failed) -> None:
        """See `Row`."""
        self._go_on_as(self._session.mend(failed, self.payload, self._lane))

    def _go_on_as(self, operation: Operation[Value]) -> None:
        self._drive = Drive(self._session.incarnation.hub, operation, self.future, self.origin)
        self._drive.begin()
