"""`statewise token`: lets somebody call a server.

The token is printed once and kept nowhere; the file holds its digest.
"""

from pathlib import Path
from typing import Annotated

import typer

from statewise import service
from statewise.cli._terminal import JsonFlag, expects, print_json, remarks


@expects(service.CallersError)
def token(
    owner: Annotated[
        str, typer.Argument(metavar="OWNER", help="Who it is for. Owners do not see each other's sessions.")
    ],
    callers: Annotated[
        Path, typer.Option(metavar="FILE", help="File of the server's callers; made where there is none.")
    ],
    scope: Annotated[
        list[service.Scope] | None,
        typer.Option(help="What it allows; may be given again. Default: predict and session."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Makes a bearer token, adds its owner to the callers of a server, and prints the token.

    A running server that was started with --callers FILE takes it within a second. Removing the entry takes
    the permission away, also from streams that are open.

    For example:

      statewise token ann --callers callers.toml > ann.token

      statewise token operations --callers callers.toml --scope admin > operations.token
    """
    scopes = scope or [service.Scope.PREDICT, service.Scope.SESSION]
    made = service.add_token(callers, owner, scopes)
    if as_json:
        print_json({"owner": owner, "scopes": [str(one) for one in scopes], "token": made})
        return
    print(made)
    remarks().print(f"{owner} may {' and '.join(scopes)}; the token is shown this once")
