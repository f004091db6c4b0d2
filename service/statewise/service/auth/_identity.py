"""Who calls, and what they may do.

Not how that is found out (callers.py) nor where it is enforced (servicers/_gate.py). Every call has exactly
one identity; where the server asks for no credentials, that is the same one for everybody.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from statewise.service.base import ServiceError
from statewise.wire import Reason


class Scope(StrEnum):
    """What a caller may be allowed."""

    PREDICT = "predict"
    """Running whole sequences; nothing is kept."""
    SESSION = "session"
    """Sessions of its own."""
    ADMIN = "admin"
    """Loading models, and seeing and ending everybody's sessions."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller.

    Attributes:
        owner: Whose sessions it meets; empty where the server knows no owners.
        scopes: What it may do.
        credential: What it was known by: the digest of a token, or a name in a certificate.
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
        """The owner that a request is about: the caller itself, or whom it names.

        Raises:
            ServiceError: PERMISSION_DENIED: it names somebody else and is no admin.
        """
        if named not in ("", self.owner):
            self.check(frozenset({Scope.ADMIN}))
        return named or self.owner


ANYBODY = Identity("", frozenset(Scope))
"""Every caller of a server that asks for no credentials."""

_caller: ContextVar[Identity] = ContextVar("statewise-caller")


def caller() -> Identity:
    """Who makes the call that runs now. Raises LookupError outside a call."""
    return _caller.get()


def enter_call(identity: Identity) -> None:
    """Makes an identity that of the call which the running task serves, and of the tasks it starts."""
    _caller.set(identity)


def _listed(scopes: frozenset[Scope]) -> str:
    return " or ".join(scope for scope in Scope if scope in scopes) or "none"
