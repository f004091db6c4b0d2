"""How commands reach a server: the options for it, in one place, and the client they make.

Every command that talks to a server is decorated with `connects`, so that all of them take the same options.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from statewise.cli._terminal import fail
from statewise.client import Client, StatewiseError, Tls

_T = TypeVar("_T")

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where `statewise serve` listens unless told otherwise."""

_PANEL = "Connection"
_COMPLETION_S = 1.0  # for a server that does not answer while somebody types


def _option(flag: str, metavar: str, variable: str, help_text: str) -> Any:
    return typer.Option(flag, metavar=metavar, envvar=variable, help=help_text, rich_help_panel=_PANEL)


TargetOption = Annotated[
    str, _option("--target", "HOST:PORT", "STATEWISE_TARGET", "The server, or several: dns:///NAME:PORT.")
]
TokenFileOption = Annotated[
    Path | None,
    _option("--token-file", "FILE", "STATEWISE_CLIENT_TOKEN_FILE", "File that holds the bearer token."),
]
TlsFlag = Annotated[
    bool,
    typer.Option(
        "--tls",
        help="Encrypt, and check the server against the system's authorities. The options below imply it.",
        rich_help_panel=_PANEL,
    ),
]
CaOption = Annotated[
    Path | None,
    _option("--tls-ca", "FILE", "STATEWISE_CLIENT_TLS_CA", "PEM file of the authorities to trust instead."),
]
CertificateOption = Annotated[
    Path | None,
    _option(
        "--tls-certificate",
        "FILE",
        "STATEWISE_CLIENT_TLS_CERTIFICATE",
        "PEM file of this client's own chain.",
    ),
]
KeyOption = Annotated[
    Path | None,
    _option("--tls-key", "FILE", "STATEWISE_CLIENT_TLS_KEY", "PEM file of its private key."),
]
ServerNameOption = Annotated[
    str | None,
    _option(
        "--tls-server-name",
        "NAME",
        "STATEWISE_CLIENT_TLS_SERVER_NAME",
        "Name in the server's certificate, where it is not the target's.",
    ),
]


@dataclass(frozen=True)
class Connection:
    """Where a command's server is, and what it is shown."""

    target: str
    token_file: Path | None = None
    tls: Tls | None = None

    def client(self, *, timeout: float | None = None) -> Client:
        """A client for it. Ends the command where a file cannot be read."""
        try:
            token = None if self.token_file is None else self.token_file.read_text(encoding="utf-8").strip()
            return Client(self.target, token=token, tls=self.tls, timeout=timeout)
        except (OSError, UnicodeDecodeError) as error:
            fail(error)


def connects(command: Callable[..., _T]) -> Callable[..., _T]:
    """Decorates a subcommand: in the place of its parameter `connection` it takes the options above."""

    # Without its annotations: the options' own are read below.
    @functools.wraps(command, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def connected(
        *,
        target: TargetOption = DEFAULT_TARGET,
        token_file: TokenFileOption = None,
        tls: TlsFlag = False,
        tls_ca: CaOption = None,
        tls_certificate: CertificateOption = None,
        tls_key: KeyOption = None,
        tls_server_name: ServerNameOption = None,
        **arguments: Any,
    ) -> _T:
        if (tls_certificate is None) != (tls_key is None):
            raise typer.BadParameter("expected both or none", param_hint="--tls-certificate, --tls-key")
        given = (tls_ca, tls_certificate, tls_key, tls_server_name)
        checked = Tls(*given) if tls or any(value is not None for value in given) else None
        return command(**arguments, connection=Connection(target, token_file, checked))

    own = inspect.signature(command)
    options = inspect.signature(connected, follow_wrapped=False).parameters.values()
    parameters = [
        *(parameter for name, parameter in own.parameters.items() if name != "connection"),
        *(option for option in options if option.kind is not inspect.Parameter.VAR_KEYWORD),
    ]
    # What typer reads: the options of both.
    connected.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    connected.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return connected


def complete_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the server's models, for the shell's completion; none where no server answers."""
    try:
        with Client(ctx.params.get("target") or DEFAULT_TARGET, timeout=_COMPLETION_S) as client:
            names = {model.name for model in client.models()}
    except StatewiseError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", autocompletion=complete_models, help="Model to run.")
]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="Default: the server's default version.")
]
