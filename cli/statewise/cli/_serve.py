"""Implements `statewise serve`: runs a server in the foreground."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from statewise import service
from statewise.cli._terminal import exits_on

RepositoryOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of models: DIR/<model>/<version>/. Required, as an option, variable or file entry.",
    ),
]
ListenOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Port 0 picks a free port. Default: 127.0.0.1:50051."),
]
MetricsListenOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Also serve /metrics, /readyz and /healthz over HTTP on this address. Default: no HTTP.",
    ),
]
HealthListenOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Also serve /readyz and /healthz alone over HTTP on this address. Default: no such port.",
    ),
]
LogFormatOption = Annotated[str | None, typer.Option(metavar="console|json", help="Default: console.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="none|sqlite:PATH|redis://HOST:PORT",
        help="Where sessions are kept beyond the end of the process. Default: none.",
    ),
]
CertificateOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="PEM file with the server's certificate chain.")
]
KeyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="PEM file with the private key of --tls-certificate.")
]
ClientCaOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="PEM file with authorities; every client must present their certificate."
    ),
]
CallersOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML file that lists the callers, as `statewise token` writes it."),
]
InsecureFlag = Annotated[
    bool | None,
    typer.Option(
        "--insecure",
        help="Allow addresses other than loopback while TLS is off or anybody may call.",
    ),
]
ReflectionFlag = Annotated[
    bool | None,
    typer.Option(
        "--reflection", help="Offer gRPC's server reflection, so that callers can read the contract."
    ),
]
ConfigOption = Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with settings.")]


@exits_on(service.SettingsError, service.ServerError, service.ServiceError)
def serve(
    repository: RepositoryOption = None,
    listen: ListenOption = None,
    metrics_listen: MetricsListenOption = None,
    health_listen: HealthListenOption = None,
    log_format: LogFormatOption = None,
    store: StoreOption = None,
    tls_certificate: CertificateOption = None,
    tls_key: KeyOption = None,
    tls_client_ca: ClientCaOption = None,
    callers: CallersOption = None,
    insecure: InsecureFlag = None,
    reflection: ReflectionFlag = None,
    config: ConfigOption = None,
) -> None:
    """Serves a repository of model packages. On SIGTERM or SIGINT, requests in flight finish first.

    Prints `listening on HOST:PORT` once ready. Options override STATEWISE_* variables (STATEWISE_REPOSITORY,
    STATEWISE_LISTEN and so on), and variables override the TOML file.

    For example:

      statewise serve --repository repository

      statewise serve --repository repository --listen 127.0.0.1:0 --config server.toml
    """
    settings = service.Settings.load(
        config=config,
        repository=repository,
        listen=listen,
        metrics_listen=metrics_listen,
        health_listen=health_listen,
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
