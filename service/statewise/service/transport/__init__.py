"""Speaks gRPC: no other folder imports grpc. Never decides about models or sessions."""

import statewise.service.transport._first_import_of_grpc  # noqa: F401  # isort: split
from statewise.service.transport._event_loops import make_event_loop
from statewise.service.transport._grpc_server import GrpcServer
from statewise.service.transport._listening import TransportError, check_exposure
from statewise.service.transport._port_check import port_answers
from statewise.service.transport._tls import CertificateRenewal, TlsError

__all__ = [
    "CertificateRenewal",
    "GrpcServer",
    "TlsError",
    "TransportError",
    "check_exposure",
    "make_event_loop",
    "port_answers",
]
