"""Serves a call of any transport: who may make it, its request, its status. Knows no gRPC and no model."""

from statewise.service.transport.calls._call import Call, CallAbandoned, CallError
from statewise.service.transport.calls._call_server import CallServer, Ending
from statewise.service.transport.calls._certificates import certificate_names
from statewise.service.transport.calls._gate import SCOPES, Gate
from statewise.service.transport.calls._methods import Method, methods_of
from statewise.service.transport.calls._open_calls import OpenCalls

__all__ = [
    "SCOPES",
    "Call",
    "CallAbandoned",
    "CallError",
    "CallServer",
    "Ending",
    "Gate",
    "Method",
    "OpenCalls",
    "certificate_names",
    "methods_of",
]
