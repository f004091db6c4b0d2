"""The `statewise` command.

Argument parsing, progress and tables around the other packages; no behaviour of its own. Each subcommand is a
module that is imported only when it runs, so that asking for help costs nothing.
"""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command with the process's arguments. Exits 0, 1 on failure, 2 on wrong usage."""
    try:
        import typer
    except ModuleNotFoundError:
        sys.exit("statewise: the command needs typer and rich; pip install 'statewise[cli]'")
    del typer
    from statewise.cli._app import make_app
    from statewise.cli._blas import prefer_wide_kernels

    # onnxruntime reports on sessions and models to its vendor, unless told not to before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # What the transport has to say of a connection, errors say too; the first line on stderr is ours.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # NumPy is not imported yet: it is when a subcommand that needs it runs.
    prefer_wide_kernels()
    make_app()(prog_name="statewise")
