"""Identifies callers and holds their scopes. Knows no gRPC: the gate is in transport."""

from statewise.service.auth._callers import Callers, CallersError, add_token
from statewise.service.auth._file_watch import FileWatch
from statewise.service.auth._identity import ANYBODY, Identity, Scope, caller, enter_call

__all__ = [
    "ANYBODY",
    "Callers",
    "CallersError",
    "FileWatch",
    "Identity",
    "Scope",
    "add_token",
    "caller",
    "enter_call",
]
