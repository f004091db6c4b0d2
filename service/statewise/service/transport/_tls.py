"""The server's side of TLS: its certificate, read again when it is renewed, and whose certificates it trusts.

Every connection gets what the files hold when it begins; a file that cannot be used leaves what was used
before. Private keys are read, handed to gRPC, and neither kept nor logged.
"""

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path

import grpc

from statewise.service.auth import FileWatch

_log = logging.getLogger(__name__)


class TlsError(ValueError):
    """Certificate, key or authorities that cannot be used. The message names the file."""


def server_credentials(
    *, certificate: Path, key: Path, client_authorities: Path | None
) -> grpc.ServerCredentials:
    """Credentials that follow their files.

    Args:
        certificate: PEM file of the server's certificate chain.
        key: PEM file of its private key.
        client_authorities: PEM file of the authorities whose client certificates are trusted; every client
            has to show one then. None: clients show none.

    Raises:
        TlsError: a file cannot be read, or key and certificate do not belong together.
    """

    def read() -> grpc.ServerCertificateConfiguration:
        _check(certificate, key, client_authorities)
        try:
            return grpc.ssl_server_certificate_configuration(
                [(key.read_bytes(), certificate.read_bytes())],
                None if client_authorities is None else client_authorities.read_bytes(),
            )
        except OSError as error:
            raise TlsError(f"{error.filename}: {error.strerror}") from None

    watch = FileWatch(*filter(None, (certificate, key, client_authorities)))

    current = read()

    def follow() -> grpc.ServerCertificateConfiguration:
        """Called by gRPC, in a thread of its own, as each connection begins."""
        nonlocal current
        if watch.changed():
            try:
                current = read()
                _log.info("%s was read again", certificate)
            except TlsError as error:
                _log.error("the certificate stays as it was: %s", error)
        return current

    return grpc.dynamic_ssl_server_credentials(
        current, follow, require_client_authentication=client_authorities is not None
    )


def certificate_names(auth_context: Mapping[str, object]) -> list[str]:
    """Names in the certificate that a client has shown and TLS has verified, the alternative ones first."""
    names: list[str] = []
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        values = auth_context.get(key, ())
        assert isinstance(values, list | tuple), "gRPC gives lists"
        names += [value.decode(errors="replace") for value in values]
    return names


def _check(certificate: Path, key: Path, client_authorities: Path | None) -> None:
    """Lets the standard library judge the files: gRPC would say no more than that handshakes fail."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key that needs a password would otherwise make the server wait at its terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise TlsError(f"{certificate} with {key}: {_words(error)}") from None
    if client_authorities is not None:
        try:
            context.load_verify_locations(client_authorities)
        except OSError as error:
            raise TlsError(f"{client_authorities}: {_words(error)}") from None


def _words(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
