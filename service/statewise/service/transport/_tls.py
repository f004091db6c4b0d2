"""Makes the server's TLS credentials, and reads its certificate again when the files change.

A connection gets the certificate that the files hold when it begins; while a file is invalid, the last valid
certificate stays. Private keys are passed to gRPC, and neither kept nor logged.
"""

import logging
import ssl
from pathlib import Path

import grpc

from statewise.service.auth import FileWatch

_log = logging.getLogger(__name__)


class TlsError(ValueError):
    """An invalid certificate, key or authorities file. The message names the file."""


def server_credentials(
    *, certificate: Path, key: Path, client_authorities: Path | None
) -> grpc.ServerCredentials:
    """Returns credentials that change with their files.

    Args:
        certificate: PEM file of the server's certificate chain.
        key: PEM file of its private key.
        client_authorities: PEM file of the authorities whose client certificates are trusted; every client
            then needs a certificate. None: no client needs one.

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

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Gives the credentials of a new connection; gRPC calls this in a thread of its own.

        GRPC frees the configuration that it gets, so each is new. None: the last one stays.
        """
        if not watch.changed():
            return None
        try:
            renewed = read()
        except TlsError as error:
            _log.error("the certificate stays as it was: %s", error)
            return None
        _log.info("%s was read again", certificate)
        return renewed

    return grpc.dynamic_ssl_server_credentials(
        read(),
        fetch,  # type: ignore[arg-type]  # its stub forbids None
        require_client_authentication=client_authorities is not None,
    )


def _check(certificate: Path, key: Path, client_authorities: Path | None) -> None:
    """Checks the files with the standard library, whose errors say more than a failed handshake of gRPC."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password given here, a protected key would make the server wait for one at its terminal.
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
