"""Adapts a call of grpc.aio: begins reads and writes at once where grpc.aio can take them, without a task.

grpc.aio's `read` and `write` are coroutines that begin an operation, then await the future of its end. They
are driven by hand up to that future, and by the future's callback to their end. `read` gives the same for a
client that has left as for one that has said everything; grpc.aio cancels the call's task right after.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
from grpc_status import rpc_status

from statewise.service.transport.calls import Call, Ending, certificate_names

_log = logging.getLogger(__name__)

_Context = grpc.aio.ServicerContext[bytes, bytes]


class AioCall(Call):
    """A call of grpc.aio.

    Args:
        context: grpc.aio's view of the call.
        request: The only request, where grpc.aio has read it already; None: the client streams.
    """

    def __init__(self, context: _Context, request: bytes | None) -> None:
        self._context = context
        self._request = request

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return tuple(self._context.invocation_metadata() or ())

    def peer(self) -> str:
        return self._context.peer()

    def certificate_names(self) -> list[str]:
        return certificate_names(self._context.auth_context())

    def remaining_s(self) -> float | None:
        return self._context.time_remaining()

    def read(self, received: Callable[[bytes | None], None]) -> None:
        self.is_read = True
        request, self._request = self._request, None
        if request is not None:
            received(request)
            return
        _drive(self._context.read(), lambda raw: received(raw if isinstance(raw, bytes) else None))

    def send(self, message: bytes, sent: Callable[[], None]) -> None:
        _drive(self._context.write(message), lambda _: sent())

    def on_end(self, ended: Callable[[], None]) -> None:
        self._context.add_done_callback(lambda _: ended())  # type: ignore[arg-type]  # its stub is no protocol

    async def end(self, ending: Ending) -> bytes | None:
        """Returns the only response, or ends the call with the status of its failure."""
        if ending.status is None:
            return ending.message
        status = rpc_status.to_status(ending.status)
        await self._context.abort(status.code, status.details, status.trailing_metadata)
        raise AssertionError("abort raises")


def _drive(operation: Coroutine[Any, Any, Any], done: Callable[[Any], None]) -> None:
    """Drives a coroutine of grpc.aio, which awaits nothing but futures, to its end.

    Args:
        operation: The coroutine.
        done: Gets its result; is not called if the operation fails: the connection broke, and grpc.aio
            cancels the call's task.
    """

    def go_on(_: asyncio.Future[Any] | None) -> None:
        try:
            waits_for = operation.send(None)
        except StopIteration as end:
            done(end.value)
        except (grpc.aio.BaseError, asyncio.CancelledError) as error:
            _log.debug("a call ended while reading or writing: %r", error)
        else:
            waits_for.add_done_callback(go_on)

    go_on(None)
