"""Reads the details of errors."""

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The status of a failed call, with its details."""
    status = rpc_status.from_call(error)
    assert status is not None
    return status


def info_in(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """The first detail of a status, which every error of the service has."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def only_reason_of(error: grpc.RpcError) -> str:
    """The reason of a failed call whose status has no other detail."""
    status = status_of(error)
    assert len(status.details) == 1
    return str(info_in(status).reason)
