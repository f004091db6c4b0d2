"""Implements `statewise token`: creates a bearer token and adds its owner to a callers file.

The token is printed once and stored nowhere; the file holds its digest.
"""

from pathlib import Path
from typing import Annotated

import typer

from statewise import service
from statewise.cli._terminal import JsonFlag, exits_on, print_json, remark


@exits_on(service.CallersError)
def token(
    owner: Annotated[
        str,
        typer.Argument(metavar="OWNER", help="Owner of the token. Owners do not see each other's sessions."),
    ],
    callers: Annotated[
        Path, typer.Option(metavar="FILE", help="Callers file of the server; created if it does not exist.")
    ],
    scope: Annotated[
        list[service.Scope] | None,
        typer.Option(help="Scope of the token; repeat for several. Default: predict and session."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Creates a bearer token, adds its owner to a callers file, and prints the token.

    A server that runs with --callers FILE accepts the token within a second. To revoke the token, remove its
    entry from the file; this also ends open streams.

    For example:

      statewise token ann --callers callers.toml > ann.token

      statewise token operations --callers callers.toml --scope admin > operations.token
    """
    scopes = scope or [service.Scope.PREDICT, service.Scope.SESSION]
    created = service.add_token(callers, owner, scopes)
    if as_json:
        print_json({"owner": owner, "scopes": [str(one) for one in scopes], "token": created})
        return
    print(created)
    remark(f"{owner} has {' and '.join(scopes)}; the token is shown only once")
