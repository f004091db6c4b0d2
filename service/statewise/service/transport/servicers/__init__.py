"""Implements the gRPC services by calling the dataplane. Never decides about models or sessions."""

from statewise.service.transport.servicers._admin_servicer import AdminServicer
from statewise.service.transport.servicers._health_servicer import HealthServicer
from statewise.service.transport.servicers._model_servicer import ModelServicer
from statewise.service.transport.servicers._sequence_servicer import SequenceServicer

__all__ = [
    "AdminServicer",
    "HealthServicer",
    "ModelServicer",
    "SequenceServicer",
]
