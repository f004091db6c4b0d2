"""Makes the server's TLS credentials, and reads its certificate again when the files change.

A connection gets the certificate that the files hold when it begins; while a file is invalid, the last valid
certificate stays. Private keys are passed to gRPC, and neither kept nor logged.
"""

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from statewise.service.auth import FileWatch

_log = logging.getLogger(__name__)

_QUIET_S = 0.5
"""Time that a thread of gRPC has, even on a busy machine, for the few instructions that begin one."""


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

    renewal = CertificateRenewal(read, certificate, *filter(None, (key, client_authorities)))
    return grpc.dynamic_ssl_server_credentials(
        read(),
        renewal,  # type: ignore[arg-type]  # its stub forbids None
        require_client_authentication=client_authorities is not None,
    )


class CertificateRenewal:
    """Reads changed files for new connections. gRPC calls it, in threads of its own, one call at a time.

    A thread that has got its answer begins its connection with the configuration that holds then, and takes
    no reference before it does. A configuration that another thread replaces in this moment is freed, and the
    process crashes. So a new one is given only when no call has returned for `_QUIET_S`. Connections that
    begin meanwhile wait.

    Args:
        read: Reads and checks the files; raises TlsError where they cannot be used.
        certificate: The file that the log names.
        others: Further files.
        clock: Seconds that pass.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        read: Callable[[], grpc.ServerCertificateConfiguration],
        certificate: Path,
        *others: Path,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read = read
        self._certificate = certificate
        self._watch = FileWatch(certificate, *others)
        self._clock = clock
        self._sleep = sleep
        self._returned_s = clock()

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns the configuration of the next connections; None: the last one stays.

        GRPC frees the configuration that it gets, so each is new.
        """
        try:
            return self._renewed() if self._watch.changed() else None
        finally:
            self._returned_s = self._clock()

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        if (wait_s := self._returned_s + _QUIET_S - self._clock()) > 0:
            self._sleep(wait_s)
        try:
            renewed = self._read()
        except TlsError as error:
            _log.error("the certificate stays as it was: %s", error)
            return None
        _log.info("%s was read again", self._certificate)
        return renewed


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
