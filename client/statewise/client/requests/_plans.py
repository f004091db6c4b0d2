"""Defines plans, which a shell carries out by blocking or by awaiting, and the options of a client.

A plan is a generator, like an operation: it yields a `Call`, an `Operate` or a `Wait`, is sent the outcome or
has a failure thrown into it, and returns the result.
"""

import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from statewise.client.retries import Backoff, RetryPolicy, RetryRules
from statewise.client.stream import Operation, Tracing
from statewise.client.values import MOST_WHOLE, check_real, check_seconds, check_whole

T = TypeVar("T")

CLOSE_TIMEOUT_S = 5.0
"""For closing a session at the end of a `with`."""

_LEAST_TIMEOUT_S = 0.001
"""gRPC takes no timeout of nothing."""

REPLAY_BYTES = 4 * 1024 * 1024
"""Inputs kept for each session, unless the client says otherwise."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call with one request. The outcome is its response, or the list of its responses if it streams."""

    method: str
    request: Any
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Operate:
    """An operation on the session stream."""

    operation: Operation[Any]
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause."""

    delay_s: float


Plan = Generator[Call | Operate | Wait, Any, T]


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The settings of a client.

    Attributes:
        timeout_s: for calls that name none; None: no limit.
        retry_for_s: how long a session tries to reach its server again, any request waits for a model that is
            being loaded, and bulk work waits for a server, before they raise Unavailable.
        replay_bytes: inputs kept for each session, to build its state again if a server lost it.
        clock: monotonic seconds.
        random: uniform in [0, 1); spreads the tries of many clients.
        new_id: makes the ids of anonymous sessions.
        tracing: makes spans of calls and messages; None: there are none.
    """

    timeout_s: float | None
    retry_for_s: float
    replay_bytes: int
    clock: Callable[[], float]
    random: Callable[[], float]
    new_id: Callable[[], str] = lambda: secrets.token_hex(16)
    tracing: Tracing | None = None

    def __post_init__(self) -> None:
        if self.timeout_s is not None:
            check_seconds("timeout", self.timeout_s)
        check_real("reconnect_s", self.retry_for_s)
        check_whole("replay_bytes", self.replay_bytes, 0, MOST_WHOLE)

    @property
    def backoff(self) -> Backoff:
        """The pauses between tries."""
        return Backoff(self.random)

    def countdown(self, timeout_s: float | None) -> Callable[[], float | None]:
        """Returns what gives the seconds left of a timeout that begins now, at least a millisecond."""
        if timeout_s is None:
            return lambda: None
        end_s = self.clock() + timeout_s
        return lambda: max(end_s - self.clock(), _LEAST_TIMEOUT_S)

    def retry_policy(self, rules: RetryRules, timeout_s: float | None = None) -> RetryPolicy:
        """Returns a new policy, for the tries of one request; `timeout_s` is for all of them together."""
        deadline_s = None if timeout_s is None else self.clock() + timeout_s
        return RetryPolicy(rules, self.clock, self.backoff, self.retry_for_s, deadline_s)


def answer_wait_s(timeout_s: float) -> float:
    """Returns how long to wait for a reply: a little longer than the server takes, whose error says more."""
    return timeout_s * 1.05 + 0.05
