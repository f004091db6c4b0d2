"""Checks the health of the server in this container over gRPC; exit code 0: the server takes work.

Not part of the package. The probe runs every few seconds, so it stays light: the only installed package that
it imports is grpc, and it compares the reply's bytes without protobuf. A server with TLS may require a
certificate that the probe does not have; such a server is asked for /readyz on its metrics port instead.
"""

import os
import sys
from http import HTTPStatus
from http.client import HTTPConnection

import grpc

# HealthCheckResponse{status: SERVING}. An empty request asks about the server as a whole.
SERVING = b"\x08\x01"
DEADLINE_S = 4.0


def main() -> int:
    """Asks once and returns the exit code."""
    if "STATEWISE_TLS_CERTIFICATE" in os.environ:
        return ask_over_http(_port("STATEWISE_METRICS_LISTEN"))
    return ask_over_grpc(_port("STATEWISE_LISTEN"))


def ask_over_grpc(port: str) -> int:
    """Asks grpc.health.v1 about the server as a whole."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=DEADLINE_S)
        except grpc.RpcError as error:
            print(error, file=sys.stderr)
            return 1
    if reply != SERVING:
        print(f"expected {SERVING!r}; got {reply!r}", file=sys.stderr)
    return 0 if reply == SERVING else 1


def ask_over_http(port: str) -> int:
    """Asks for /readyz."""
    connection = HTTPConnection("127.0.0.1", int(port), timeout=DEADLINE_S)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0 if status == HTTPStatus.OK else 1


def _port(variable: str) -> str:
    return os.environ[variable].rpartition(":")[2]


if __name__ == "__main__":
    sys.exit(main())
