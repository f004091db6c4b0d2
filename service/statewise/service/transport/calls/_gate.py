"""Identifies the caller of every call and checks its scopes, before its request is decoded.

One table lists the scopes of every method; a method that is not in the table needs the admin scope. A stream
is checked when it begins, not at every message. Only requests of authorised callers are decoded, so no
other client can make the server parse anything.
"""

from statewise.service.auth import ANYBODY, Callers, Identity, Scope, enter_call
from statewise.service.base import ServiceError
from statewise.service.transport.calls._call import Call
from statewise.service.transport.calls._methods import Method
from statewise.wire import Reason

_PREDICT = frozenset({Scope.PREDICT})
_SESSION = frozenset({Scope.SESSION})
_ADMIN = frozenset({Scope.ADMIN})
_ANY = frozenset(Scope)

SCOPES: dict[str, dict[str, frozenset[Scope]]] = {
    "statewise.v1.SequenceService": {
        "Predict": _PREDICT,
        "Generate": _PREDICT,
        **dict.fromkeys(
            (
                "SessionStream",
                "OpenSessions",
                "ResumeSessions",
                "RestoreSessions",
                "Step",
                "GenerateSessions",
                "ForkSessions",
                "RewindSessions",
                "SnapshotSessions",
                "CloseSessions",
                "ReadStates",
                "WriteStates",
                "CreateCheckpoints",
                "ListCheckpoints",
                "DeleteCheckpoints",
            ),
            _SESSION,
        ),
    },
    "statewise.v1.ModelService": {
        "ListModels": _ANY,
        "GetModel": _ANY,
        "LoadModel": _ADMIN,
        "UnloadModel": _ADMIN,
    },
    "statewise.v1.AdminService": {
        "GetServer": _ANY,
        "ListSessions": _SESSION | _ADMIN,
        "GetSession": _SESSION | _ADMIN,
        "GetStates": _SESSION | _ADMIN,
        "CloseSession": _SESSION | _ADMIN,
        "WatchStats": _ADMIN,
    },
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": _ANY},
}
"""Scopes by service and method; a caller needs one of them."""

_WITHOUT_CREDENTIALS = "grpc.health.v1.Health"
"""Probes have no credentials, and learn only whether the server serves."""


class Gate:
    """Refuses calls without valid credentials or without the scope that they need.

    Args:
        callers: Identify callers; None: every caller may do everything.
    """

    def __init__(self, callers: Callers | None) -> None:
        self._callers = callers

    def enter(self, method: Method, call: Call) -> bool:
        """Gives the running task the identity of the caller.

        Returns:
            False for methods that need no credentials; their calls have no identity.

        Raises:
            ServiceError: UNAUTHENTICATED, PERMISSION_DENIED.
        """
        if method.service == _WITHOUT_CREDENTIALS:
            return False
        identity = self._identify(call)
        identity.check(needed(method))
        enter_call(identity)
        return True

    def _identify(self, call: Call) -> Identity:
        if self._callers is None:
            return ANYBODY
        given = [value for key, value in call.metadata if key == "authorization"]
        if len(given) > 1:
            raise ServiceError(
                Reason.UNAUTHENTICATED, f"expected one authorization header; got {len(given)} of them"
            )
        return self._callers.identify(
            authorization=given[0] if given and isinstance(given[0], str) else None,
            certificate_names=call.certificate_names(),
        )


def needed(method: Method) -> frozenset[Scope]:
    """Scopes of which a caller of a method needs one."""
    return SCOPES.get(method.service, {}).get(method.name, _ADMIN)
