"""Imports grpc such that the thread that polls for a server's calls also reads the server's sockets.

Otherwise gRPC reads them in threads of its own, each of which wakes the next: a message of a lone stream then
takes four system calls for each that is needed. gRPC has no option for this but an environment variable, at
which it looks when grpc is imported. The operator's own value is kept, an empty one too. Where another module
has imported grpc before, everything works as well, at gRPC's usual cost.
"""

import os
from importlib.metadata import version

_VARIABLE = "GRPC_EXPERIMENTS"
_SWITCHED_OFF = "-event_engine_listener"
_KNOWN = ("1.85.",)
"""Releases that know the switch; to any other, gRPC's log would call it unknown."""

if _VARIABLE not in os.environ and version("grpcio").startswith(_KNOWN):
    os.environ[_VARIABLE] = _SWITCHED_OFF
    import grpc  # noqa: F401

    del os.environ[_VARIABLE]  # child processes decide for themselves
