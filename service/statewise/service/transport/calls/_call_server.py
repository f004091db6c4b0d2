"""Serves one call from its first byte to its status: admits, decodes, runs the behaviour, words the failure.

Knows no transport: a transport runs `serve` as a task, cancels the task when the client leaves, and sends
what `serve` returns.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2

from statewise.service.base import ServiceError, server_fault
from statewise.service.telemetry import Statistics, fields
from statewise.service.transport.calls._call import Call, CallAbandoned, CallError
from statewise.service.transport.calls._gate import Gate
from statewise.service.transport.calls._methods import Method
from statewise.service.transport.calls._open_calls import OpenCalls
from statewise.service.transport.messages import status_of
from statewise.wire import Reason

_log = logging.getLogger(__name__)

_FIRST_MESSAGE_S = 0.1


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ends.

    Attributes:
        status: The failure; None: the call has succeeded.
        message: The only response, where the method has one.
    """

    status: status_pb2.Status | None = None
    message: bytes | None = None


_SUCCESS = Ending()
_UNKNOWN_METHOD = Ending(status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message="Method not found!"))


class CallServer:
    """Serves calls.

    Args:
        gate: Identifies callers and checks their scopes.
        open_calls: Limits and counts the calls under way.
        statistics: Count refused calls.
    """

    def __init__(self, gate: Gate, open_calls: OpenCalls, statistics: Statistics) -> None:
        self._gate = gate
        self._open_calls = open_calls
        self._refused = statistics.refused

    async def serve(self, method: Method | None, call: Call) -> Ending:
        """Serves a call, in a task and a context of its own. Returns how the call ends.

        Args:
            method: The called method; None: there is no such method.
            call: The call.

        Raises:
            CallAbandoned: nobody takes the responses.
        """
        ending = _UNKNOWN_METHOD if method is None else await self._ending(method, call)
        if ending.status is not None and not call.is_read and (method is None or method.decode is None):
            await _first_message(call)
        return ending

    async def _ending(self, method: Method, call: Call) -> Ending:
        try:
            return await self._serve(method, call)
        except ServiceError as error:
            return Ending(status_of(error))
        except CallError as error:
            return Ending(status_pb2.Status(code=error.code, message=str(error)))
        except CallAbandoned:
            raise
        except Exception as error:
            _log.error("%s failed", method.name, exc_info=error, extra=_fields(call))
            return Ending(status_of(server_fault()))

    async def _serve(self, method: Method, call: Call) -> Ending:
        self._admit(method, call)
        if method.decode is None:
            await method.behaviour(call)
            return _SUCCESS
        raw = await call.receive()
        if raw is None:
            raise self._counted(ServiceError(Reason.BAD_REQUEST, "expected a request; got none"))
        try:
            request = method.decode(raw)
        except DecodeError as error:
            unreadable = ServiceError(Reason.BAD_REQUEST, f"the request cannot be read: {error}")
            raise self._counted(unreadable) from None
        del raw
        response = await method.behaviour(request, call)
        return Ending(message=response.SerializeToString()) if method.responds_once else _SUCCESS

    def _admit(self, method: Method, call: Call) -> None:
        try:
            is_identified = self._gate.enter(method, call)
            # A probe is answered at the limit, too; a watch holds memory like any other call.
            if is_identified or not method.responds_once:
                self._open_calls.add(call)
        except ServiceError as error:
            self._counted(error)
            raise

    def _counted(self, error: ServiceError) -> ServiceError:
        self._refused[error.reason] += 1
        return error


async def _first_message(call: Call) -> None:
    """Waits a moment for the first message of a refused stream, and drops it.

    A client of grpc.aio that gets a status while it sends its first message reports an internal error.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_MESSAGE_S):
            await call.receive()


def _fields(call: Call) -> dict[str, Any]:
    request_id = dict(call.metadata).get("x-request-id")
    return fields(request_id=None if request_id is None else str(request_id), peer=call.peer())
