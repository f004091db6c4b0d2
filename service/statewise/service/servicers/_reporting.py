"""How a failure leaves a servicer: as the status of the call, with its reason."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from grpc_status import rpc_status

from statewise.service.errors import ServiceError, server_fault
from statewise.service.status import status_of
from statewise.wire import Reason

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_Method = TypeVar("_Method", bound=Callable[..., Any])


async def _abort(context: Context, error: ServiceError) -> NoReturn:
    status = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")


def reports(method: _Method) -> _Method:
    """Makes a method's ServiceError the status of the call."""

    @functools.wraps(method)
    async def reporting(self: Any, request: Any, context: Context) -> Any:
        try:
            return await method(self, request, context)
        except ServiceError as error:
            await _abort(context, error)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except Exception as error:
            _log.error("%s failed", method.__name__, exc_info=error)
            await _abort(context, server_fault())

    return reporting  # type: ignore[return-value]


def not_built(what: str) -> Callable[..., Awaitable[Any]]:
    """An operation of the contract that this server does not offer yet."""

    async def refuse(*_: Any) -> Any:
        raise ServiceError(Reason.NOT_IMPLEMENTED, f"{what} is part of the contract and not built yet")

    return refuse
