"""Maps every reason to its gRPC status, in one table, and packs failures as google.rpc.Status.

No other module chooses a status. ErrorInfo carries the reason, RetryInfo the delay of QUEUE_FULL.
"""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from statewise.service.base import RowFailure, ServiceError, shortened
from statewise.v1 import tensor_pb2
from statewise.wire import Reason

_DOMAIN = "statewise"

STATUS_OF_REASON: dict[Reason, grpc.StatusCode] = {
    Reason.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.SESSION_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.SESSION_EXPIRED: grpc.StatusCode.NOT_FOUND,
    Reason.BAD_TENSOR: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_SNAPSHOT: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.SESSION_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Reason.POSITION_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NOT_STREAMABLE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.WRONG_CALL: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.PACKAGE_INVALID: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.MODEL_CHANGED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.SESSION_MOVED: grpc.StatusCode.ABORTED,
    Reason.QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SESSION_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.BYTES_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Reason.MODEL_LOADING: grpc.StatusCode.UNAVAILABLE,
    Reason.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.CANCELLED: grpc.StatusCode.CANCELLED,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.SESSION_LOST: grpc.StatusCode.DATA_LOSS,
    Reason.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}


def status_of(error: ServiceError) -> status_pb2.Status:
    """Returns a failure for a reply on a stream or for trailing metadata."""
    details = [_packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN))]
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=_code(error.reason), message=shortened(error.message), details=details)


def row_error(failure: RowFailure) -> tensor_pb2.RowError:
    """Returns the failure of one row."""
    return tensor_pb2.RowError(
        row=failure.row,
        code=_code(failure.reason),
        reason=failure.reason,
        message=shortened(failure.message),
        position=failure.position,
    )


def _code(reason: Reason) -> int:
    number, _ = STATUS_OF_REASON[reason].value
    return int(number)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
