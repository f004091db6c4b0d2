"""Holds the `statewise` command: one module, or one folder, for each subcommand.

The command parses arguments and prints progress and tables; the other packages do the work. A subcommand is
imported only when it runs, so that `statewise --help` is quick.
"""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command with the process's arguments. Exit codes: 0, 1 on failure, 2 on wrong usage."""
    try:
        import typer
    except ModuleNotFoundError:
        sys.exit("statewise: the command needs typer and rich; pip install 'statewise[cli]'")
    del typer
    from statewise.cli._app import make_app
    from statewise.cli._blas import prefer_wide_kernels

    # onnxruntime reports sessions and models to its vendor unless this is set before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # gRPC would log connection errors before this command prints them on stderr.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # This must precede the import of NumPy, which happens when a subcommand that needs NumPy runs.
    prefer_wide_kernels()
    make_app()(prog_name="statewise")
