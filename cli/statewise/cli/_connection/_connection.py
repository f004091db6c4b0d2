"""Makes a subcommand's client from the connection options.

Every subcommand that talks to a server is decorated with `with_connection`, so all of them take the same
options, and end with one line where the client library fails.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from statewise.cli._connection._options import (
    DEFAULT_TARGET,
    CaOption,
    CertificateOption,
    KeyOption,
    ServerNameOption,
    TargetOption,
    TlsFlag,
    TokenFileOption,
    misspelt_variables,
)
from statewise.cli._connection._words import in_words_of_command
from statewise.cli._terminal import fail, remark
from statewise.client import Client, StatewiseError, Tls

_T = TypeVar("_T")


@dataclass(frozen=True)
class Connection:
    """The address of a subcommand's server, and the credentials for it."""

    target: str
    token_file: Path | None = None
    tls: Tls | None = None

    def client(self, *, timeout: float | None = None) -> Client:
        """Makes a client. Ends the command if the token or a TLS file cannot be read."""
        try:
            token = (
                None if self.token_file is None else self.token_file.read_text(encoding="utf-8-sig").strip()
            )
            return Client(self.target, token=token, tls=self.tls, timeout=timeout)
        except (OSError, UnicodeDecodeError) as error:
            fail(error)


def with_connection(command: Callable[..., _T]) -> Callable[..., _T]:
    """Decorates a subcommand: replaces its parameter `connection` by the connection options."""

    # `wraps` must not copy the annotations: those of the options are read below.
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
        for line in misspelt_variables():
            remark(line)
        values = (tls_ca, tls_certificate, tls_key, tls_server_name)
        tls_settings = Tls(*values) if tls or any(value is not None for value in values) else None
        try:
            return command(**arguments, connection=Connection(target, token_file, tls_settings))
        except StatewiseError as error:
            fail(in_words_of_command(error))

    own = inspect.signature(command)
    options = inspect.signature(connected, follow_wrapped=False).parameters.values()
    parameters = [
        *(parameter for name, parameter in own.parameters.items() if name != "connection"),
        *(option for option in options if option.kind is not inspect.Parameter.VAR_KEYWORD),
    ]
    # typer reads the signature and the annotations; both list the subcommand's own options and these.
    connected.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    connected.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return connected
