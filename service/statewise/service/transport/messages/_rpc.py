"""Ends an RPC with the status of its failure, and writes its responses within a time limit."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from grpc_status import rpc_status

from statewise.service.base import ServiceError, server_fault
from statewise.service.telemetry import fields
from statewise.service.transport.messages._status import status_of

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_Method = TypeVar("_Method", bound=Callable[..., Any])


async def abort(context: Context, error: ServiceError) -> NoReturn:
    """Ends an RPC with the status of a failure."""
    status = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")


def aborts_on_failure(method: _Method) -> _Method:
    """Decorates an RPC's method: a ServiceError becomes the status of the RPC.

    Any other exception becomes INTERNAL; its detail goes to the log alone.
    """

    @functools.wraps(method)
    async def aborting(self: Any, request: Any, context: Context) -> Any:
        try:
            return await method(self, request, context)
        except ServiceError as error:
            await abort(context, error)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except Exception as error:
            _log.error("%s failed", method.__name__, exc_info=error, extra=_fields(context))
            await abort(context, server_fault())

    return aborting  # type: ignore[return-value]


async def write_response(context: Context, response: Any, *, stall_s: float) -> None:
    """Writes one of several responses.

    Args:
        context: The RPC.
        response: The message.
        stall_s: Seconds within which the client must take the message.

    Raises:
        asyncio.CancelledError: the client took nothing in time, or its connection broke; ends the RPC.
    """
    try:
        async with asyncio.timeout(stall_s):
            await context.write(response)
    except TimeoutError:
        # gRPC accepts no status while a message waits to be taken: the RPC ends without one.
        raise asyncio.CancelledError("the caller takes nothing") from None
    except grpc.aio.InternalError:
        raise asyncio.CancelledError("the caller left") from None


def _fields(context: Context) -> dict[str, Any]:
    request_id = dict(context.invocation_metadata() or ()).get("x-request-id")
    return fields(request_id=None if request_id is None else str(request_id), peer=context.peer())
