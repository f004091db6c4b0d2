"""The gRPC services: convert, call the dataplane, convert back.

No decisions about models or sessions. Every failure leaves as a status with its reason; a fault of ours
leaves as INTERNAL and its detail goes to the log alone.
"""

from statewise.service.transport.servicers._admin_servicer import AdminServicer
from statewise.service.transport.servicers._health_servicer import Health
from statewise.service.transport.servicers._model_servicer import ModelServicer
from statewise.service.transport.servicers._sequence_servicer import SequenceServicer, add_sequence_service

__all__ = [
    "AdminServicer",
    "Health",
    "ModelServicer",
    "SequenceServicer",
    "add_sequence_service",
]
