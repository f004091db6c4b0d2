"""Puts the parts of a client together: one core under both clients, without input or output."""

from collections.abc import Callable, Sequence

from statewise.client.core._catalogue import Catalogue
from statewise.client.core._group_opener import GroupOpener
from statewise.client.core._memory import keep_freed_memory
from statewise.client.core._opener import AnonymousSessions
from statewise.client.core._sequences import Sequences
from statewise.client.core._session_opener import SessionOpener
from statewise.client.core._state_matrix import read_state_matrix
from statewise.client.core._step_batchers import StepBatchers
from statewise.client.requests import ClientOptions, Plan
from statewise.client.sessions import ByteBudget
from statewise.client.stream import StreamMultiplexer, Transport
from statewise.client.values import States, check_seconds

_JOURNAL_BUDGET_BYTES = 256 * 1024 * 1024


class ClientCore:
    """The state of a client, and the parts that plan what it does.

    Args:
        transport: the shell.
        options: how the client behaves.

    Attributes:
        multiplexer: the session stream.
        catalogue: what the server offers.
        sequences: predictions, bulk runs and generations.
        batchers: where steps gather.
        sessions: opens single sessions.
        groups: opens groups of sessions.
        anonymous: the sessions that are closed with the client.
    """

    def __init__(self, transport: Transport, options: ClientOptions) -> None:
        keep_freed_memory()
        self._options = options
        self.multiplexer = StreamMultiplexer(
            transport,
            clock=options.clock,
            backoff=options.backoff,
            retry_for_s=options.retry_for_s,
            tracing=options.tracing,
        )
        self.catalogue = Catalogue(options)
        self.sequences = Sequences(options, self.catalogue)
        self.batchers = StepBatchers(self.multiplexer, options, self.catalogue)
        self.anonymous = AnonymousSessions()
        parts = (
            self.multiplexer,
            options,
            self.catalogue,
            self.batchers,
            ByteBudget(_JOURNAL_BUDGET_BYTES),
            self.anonymous,
        )
        self.sessions = SessionOpener(*parts)
        self.groups = GroupOpener(*parts)

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds."""
        return self._options.clock

    def timeout_s(self, given: float | None) -> float | None:
        """Returns the timeout in force.

        Raises:
            InvalidInput: the timeout is no positive number.
        """
        timeout_s = self._options.timeout_s if given is None else given
        if timeout_s is not None:
            check_seconds("timeout", timeout_s)
        return timeout_s

    def states(
        self, name: str, ids: Sequence[str] | None, version: int | None, timeout_s: float | None
    ) -> Plan[States]:
        """Reads the states of the caller's own sessions; `ids`: None: of all of the version."""
        return read_state_matrix(self._options, self.catalogue, name, ids, version, timeout_s)

    def farewell(self) -> Plan[None]:
        """Closes the anonymous sessions that are still open, because no other client can find them."""
        if self.multiplexer.connected:
            yield from self.anonymous.farewell(self.multiplexer)
