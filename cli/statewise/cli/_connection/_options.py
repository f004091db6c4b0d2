"""Declares the options that subcommands with a server share, and completes model names in the shell."""

import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from statewise.client import Client, StatewiseError

DEFAULT_TARGET = "127.0.0.1:50051"
"""Default address of `statewise serve`."""

_PANEL = "Connection"
_COMPLETION_S = 1.0  # longest wait for a server while a user completes a word
_MOST_COMPLETED = 1_000
_PREFIX = "STATEWISE_CLIENT_"
_variables: set[str] = set()


def _option(flag: str, metavar: str, variable: str, help_text: str) -> Any:
    _variables.add(variable)
    return typer.Option(flag, metavar=metavar, envvar=variable, help=help_text, rich_help_panel=_PANEL)


TargetOption = Annotated[
    str,
    _option("--target", "HOST:PORT", "STATEWISE_TARGET", "The server; for several servers dns:///NAME:PORT."),
]
TokenFileOption = Annotated[
    Path | None,
    _option("--token-file", "FILE", "STATEWISE_CLIENT_TOKEN_FILE", "File that holds the bearer token."),
]
TlsFlag = Annotated[
    bool,
    typer.Option(
        "--tls",
        help="Encrypt, and verify the server with the system's authorities. The options below imply --tls.",
        rich_help_panel=_PANEL,
    ),
]
CaOption = Annotated[
    Path | None,
    _option(
        "--tls-ca",
        "FILE",
        "STATEWISE_CLIENT_TLS_CA",
        "PEM file of the authorities to trust instead of the system's.",
    ),
]
CertificateOption = Annotated[
    Path | None,
    _option(
        "--tls-certificate",
        "FILE",
        "STATEWISE_CLIENT_TLS_CERTIFICATE",
        "PEM file of this client's certificate chain.",
    ),
]
KeyOption = Annotated[
    Path | None,
    _option(
        "--tls-key", "FILE", "STATEWISE_CLIENT_TLS_KEY", "PEM file of the private key of --tls-certificate."
    ),
]
ServerNameOption = Annotated[
    str | None,
    _option(
        "--tls-server-name",
        "NAME",
        "STATEWISE_CLIENT_TLS_SERVER_NAME",
        "Name in the server's certificate, if it differs from the target's.",
    ),
]


def misspelt_variables() -> list[str]:
    """Returns a line for each STATEWISE_CLIENT_ variable of the environment that no option reads."""
    lines = []
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in _variables:
            alike = get_close_matches(name, _variables, n=1)
            meant = f"; is {alike[0]} meant?" if alike else ""
            lines.append(f"{name}: no option reads this variable{meant}")
    return lines


def complete_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Lists the server's models that begin with `incomplete`; empty if no server answers."""
    return _completed(ctx, incomplete, lambda client: (model.name for model in client.models()))


def complete_sessions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Lists sessions that begin with `incomplete`, among a thousand of the server; empty if none answers."""
    return _completed(
        ctx,
        incomplete,
        lambda client: (session.id for session in client.list_sessions(limit=_MOST_COMPLETED)),
    )


def _completed(ctx: typer.Context, incomplete: str, names: Callable[[Client], Iterable[str]]) -> list[str]:
    try:
        with Client(ctx.params.get("target") or DEFAULT_TARGET, timeout=_COMPLETION_S) as client:
            return sorted({name for name in names(client) if name.startswith(incomplete)})
    except StatewiseError:
        return []


ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", autocompletion=complete_models, help="Model to run.")
]
VersionOption = Annotated[
    int | None,
    typer.Option("--version", min=1, help="Model version. Default: the server's default version."),
]
SessionArgument = Annotated[
    str, typer.Argument(metavar="ID", autocompletion=complete_sessions, help="The session's name.")
]
OwnerOption = Annotated[
    str | None,
    typer.Option(
        "--owner", metavar="NAME", help="Its owner, if that is another caller: needs the scope admin."
    ),
]
