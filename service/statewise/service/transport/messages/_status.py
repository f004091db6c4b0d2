"""Maps every reason to its gRPC status, in one table, and packs failures as google.rpc.Status.

No other module chooses a status. ErrorInfo carries the reason, RetryInfo the delay of QUEUE_FULL and
STORE_UNAVAILABLE.
"""

from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from statewise.service.base import RowFailure, ServiceError, shortened
from statewise.v1 import tensor_pb2
from statewise.wire import Reason

_DOMAIN = "statewise"

STATUS_OF_REASON: dict[Reason, int] = {
    Reason.MODEL_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.SESSION_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.SESSION_EXPIRED: code_pb2.NOT_FOUND,
    Reason.BAD_TENSOR: code_pb2.INVALID_ARGUMENT,
    Reason.BAD_REQUEST: code_pb2.INVALID_ARGUMENT,
    Reason.BAD_SNAPSHOT: code_pb2.INVALID_ARGUMENT,
    Reason.SESSION_EXISTS: code_pb2.ALREADY_EXISTS,
    Reason.POSITION_MISMATCH: code_pb2.FAILED_PRECONDITION,
    Reason.NOT_STREAMABLE: code_pb2.FAILED_PRECONDITION,
    Reason.WRONG_CALL: code_pb2.FAILED_PRECONDITION,
    Reason.PACKAGE_INVALID: code_pb2.FAILED_PRECONDITION,
    Reason.MODEL_CHANGED: code_pb2.FAILED_PRECONDITION,
    Reason.SESSION_MOVED: code_pb2.ABORTED,
    Reason.QUEUE_FULL: code_pb2.RESOURCE_EXHAUSTED,
    Reason.SESSION_LIMIT: code_pb2.RESOURCE_EXHAUSTED,
    Reason.BYTES_LIMIT: code_pb2.RESOURCE_EXHAUSTED,
    Reason.DRAINING: code_pb2.UNAVAILABLE,
    Reason.MODEL_LOADING: code_pb2.UNAVAILABLE,
    Reason.STORE_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.DEADLINE: code_pb2.DEADLINE_EXCEEDED,
    Reason.CANCELLED: code_pb2.CANCELLED,
    Reason.UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED: code_pb2.PERMISSION_DENIED,
    Reason.SESSION_LOST: code_pb2.DATA_LOSS,
    Reason.CHECKPOINT_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.CHECKPOINT_EXISTS: code_pb2.ALREADY_EXISTS,
    Reason.NOT_IMPLEMENTED: code_pb2.UNIMPLEMENTED,
    Reason.INTERNAL: code_pb2.INTERNAL,
}


def status_of(error: ServiceError) -> status_pb2.Status:
    """Returns a failure for a reply on a stream or for trailing metadata."""
    details = [_packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN))]
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(
        code=STATUS_OF_REASON[error.reason], message=shortened(error.message), details=details
    )


def row_error(failure: RowFailure) -> tensor_pb2.RowError:
    """Returns the failure of one row."""
    return tensor_pb2.RowError(
        row=failure.row,
        code=STATUS_OF_REASON[failure.reason],
        reason=failure.reason,
        message=shortened(failure.message),
        position=failure.position,
    )


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
