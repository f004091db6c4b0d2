"""Defines a caller's identity and scopes, and gives the running call its identity.

`_callers` finds the identity, transport's gate enforces the scopes. Every call has exactly one
identity; where the server asks for no credentials, all calls have the same one.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from statewise.service.base import ServiceError
from statewise.wire import Reason


class Scope(StrEnum):
    """A permission that a caller may have."""

    PREDICT = "predict"
    """Run whole sequences, without sessions."""
    SESSION = "session"
    """Have sessions."""
    ADMIN = "admin"
    """Load models; see and end the sessions of all owners."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller.

    Attributes:
        owner: Name of the owner whose sessions the caller uses; empty where the server knows no owners.
        scopes: The caller's permissions.
        credential: The digest of its token, or a name in its certificate.
    """

    owner: str
    scopes: frozenset[Scope]
    credential: str = field(default="", repr=False)

    def check(self, needed: frozenset[Scope]) -> None:
        """Raises ServiceError (PERMISSION_DENIED) for a caller with none of these scopes."""
        if self.scopes.isdisjoint(needed):
            raise ServiceError(
                Reason.PERMISSION_DENIED,
                f"the call needs the scope {_listed(needed)}; {self.owner!r} has {_listed(self.scopes)}",
            )

    def owner_meant(self, named: str) -> str:
        """Returns the owner that a request concerns: the one that it names, else the caller's own.

        Raises:
            ServiceError: PERMISSION_DENIED: the request names another owner, and the caller is no admin.
        """
        if named not in ("", self.owner):
            self.check(frozenset({Scope.ADMIN}))
        return named or self.owner


ANYBODY = Identity("", frozenset(Scope))
"""The identity of every caller where the server asks for no credentials."""

_caller: ContextVar[Identity] = ContextVar("statewise-caller")


def caller() -> Identity:
    """Returns the caller of the running call. Raises LookupError outside a call."""
    return _caller.get()


def enter_call(identity: Identity) -> None:
    """Sets the identity for the running task, which serves a call, and for the tasks that it starts."""
    _caller.set(identity)


def _listed(scopes: frozenset[Scope]) -> str:
    return " or ".join(scope for scope in Scope if scope in scopes) or "none"
