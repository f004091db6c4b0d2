"""Checks the health of the server in this container over gRPC; exit code 0: the server takes work.

Not part of the package. The probe runs every few seconds, so it stays light: the only installed package that
it imports is grpc, and it compares the reply's bytes without protobuf. A server with TLS may require a
certificate that the probe does not have; such a server is asked for /readyz instead, on `health_listen` or,
where that is not set, on `metrics_listen`.

The settings are those of the server: its command line, its configuration file, and the variables that both
have.
"""

import argparse
import os
import sys
import tomllib
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import grpc

# HealthCheckResponse{status: SERVING}. An empty request asks about the server as a whole.
SERVING = b"\x08\x01"
DEADLINE_S = 4.0


def main() -> int:
    """Asks once and returns the exit code."""
    settings = settings_of_server()
    if "tls_certificate" in settings:
        return ask_over_http(settings.get("health_listen") or settings["metrics_listen"])
    return ask_over_grpc(settings["listen"])


def settings_of_server() -> dict[str, str]:
    """Settings that name addresses and TLS: flags override variables, these override the file."""
    names = ("listen", "health_listen", "metrics_listen", "tls_certificate")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("config", *names):
        parser.add_argument("--" + name.replace("_", "-"))
    flags = vars(parser.parse_known_args(command_line())[0])
    config = flags.pop("config")
    file = tomllib.loads(Path(config).read_text()) if config else {}
    variables = {name: os.environ.get("STATEWISE_" + name.upper()) for name in names}
    merged = {"listen": "127.0.0.1:50051", **file}
    for source in (variables, flags):
        merged |= {name: value for name, value in source.items() if value is not None}
    return merged


def command_line() -> list[str]:
    """Arguments of the server that has this probe's variables, siblings first; empty: there is none."""
    own = {name: value for name, value in os.environ.items() if name.startswith("STATEWISE_")}
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=_distance):
        try:
            words = (folder / "cmdline").read_text().split("\0")[:-1]
            variables = (folder / "environ").read_text(errors="replace").split("\0")
        except OSError:
            continue  # it has ended, or is another user's
        names = [Path(word).name for word in words[:3]]
        theirs = dict(entry.split("=", 1) for entry in variables if entry.startswith("STATEWISE_"))
        if "statewise" in names[:-1] and names[names.index("statewise") + 1] == "serve" and theirs == own:
            return words[names.index("statewise") + 2 :]
    return []


def _distance(process: Path) -> tuple[bool, int]:
    """Siblings before other processes, new ones before old ones. Docker starts server and probe itself."""
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        parent = -1
    return parent != os.getppid(), -int(process.name)


def ask_over_grpc(address: str) -> int:
    """Asks grpc.health.v1 about the server as a whole."""
    with grpc.insecure_channel(_local(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=DEADLINE_S)
        except grpc.RpcError as error:
            print(error, file=sys.stderr)
            return 1
    if reply != SERVING:
        print(f"expected {SERVING!r}; got {reply!r}", file=sys.stderr)
    return 0 if reply == SERVING else 1


def ask_over_http(address: str) -> int:
    """Asks for /readyz."""
    connection = HTTPConnection(_local(address), timeout=DEADLINE_S)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0 if status == HTTPStatus.OK else 1


def _local(address: str) -> str:
    """Where this machine reaches a server that listens on the address."""
    host, _, port = address.rpartition(":")
    return f"{'127.0.0.1' if host == '0.0.0.0' else '[::1]' if host == '[::]' else host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
