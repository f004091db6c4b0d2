"""Accepts calls with grpc.aio such that no request ends its accept loop; notices if the loop ends anyway.

grpc.aio decodes the path of a call of an unknown method in its accept loop. A path that is not UTF-8 raises
there, which ends the loop, and with it the server. The paths of registered methods are matched as bytes, and
all methods of this server are registered. So calls of other methods are refused here, and their paths are
never decoded.

What this module overrides is private to grpcio; docs/design.md says why.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server as grpc_aio

_log = logging.getLogger(__name__)


class AcceptingServer(grpc_aio.Server):
    """grpc.aio's server on the running event loop, with the accept loop of this module."""

    def __init__(self, options: Sequence[tuple[str, int]]) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _Core(self._loop, None, (), (), tuple(options), None)

    @property
    def accepts(self) -> bool:
        """Whether the accept loop runs."""
        return self._server.failure is None


class _Core(cygrpc.AioServer):  # type: ignore[misc]
    """grpc.aio's server behind its public one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.failure: Exception | None = None
        self._stops = asyncio.Event()
        self._refusals: set[asyncio.Task[None]] = set()

    async def shutdown(self, grace: float | None) -> None:
        self._stops.set()
        await super().shutdown(grace)

    async def _server_main_loop(self, started: "asyncio.Future[bool]") -> None:
        """The accept loop. If it fails, calls under way go on until the server is stopped."""
        try:
            await super()._server_main_loop(started)
        except Exception as error:
            if self._stops.is_set() or not started.done():
                raise
            self.failure = error
            _log.critical("gRPC accepts no more calls; restart the server", exc_info=error)
            await self._stops.wait()

    if hasattr(cygrpc.AioServer, "_request_registered_call"):

        async def _request_call(self) -> None:
            """Refuses the calls of unknown methods; the accept loop waits for one in vain."""
            loop = asyncio.get_running_loop()
            while True:
                state = await super()._request_call()
                context = cygrpc._ServicerContext(state, None, None, loop)
                refusal = loop.create_task(
                    cygrpc._schedule_rpc_coro(_refuse(context), state, loop, "an unknown method")
                )
                self._refusals.add(refusal)
                refusal.add_done_callback(self._refusals.discard)


async def _refuse(context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
