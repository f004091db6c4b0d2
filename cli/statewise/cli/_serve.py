"""`statewise serve`: a server in the foreground."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from statewise import service
from statewise.cli._terminal import expects


@expects(service.SettingsError, service.ServerError, service.ServiceError)
def serve(
    repository: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of models: DIR/<model>/<version>/. Required, here or there."
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Port 0 picks a free one. Default: 127.0.0.1:50051."),
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Also serve /metrics, /readyz and /healthz over HTTP there. Default: nowhere.",
        ),
    ] = None,
    log_format: Annotated[str | None, typer.Option(metavar="console|json", help="Default: console.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Where sessions outlive the process: none, the default.")
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of the server's certificate chain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM file of its private key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM file of authorities; clients have to show a certificate."),
    ] = None,
    callers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file of who may call, as `statewise token` writes it."),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Serve strangers, or in clear, on other addresses than loopback."),
    ] = None,
    reflection: Annotated[
        bool | None, typer.Option("--reflection", help="Tell callers the contract by gRPC reflection.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with settings.")] = None,
) -> None:
    """Serves a repository of model packages until SIGTERM or SIGINT, which let requests in flight finish.

    Prints `listening on HOST:PORT` once ready. Settings come from flags, else from STATEWISE_* variables
    (STATEWISE_REPOSITORY, STATEWISE_LISTEN and so on), else from the TOML file.

    For example:

      statewise serve --repository repository

      statewise serve --repository repository --listen 127.0.0.1:0 --config server.toml
    """
    settings = service.Settings.load(
        config=config,
        repository=repository,
        listen=listen,
        metrics_listen=metrics_listen,
        store=store,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        callers=callers,
        insecure=insecure,
        reflection=reflection,
        log_format=log_format,
    )
    service.serve(settings, ready=sys.stdout)
