"""Opens ports and accepts calls with grpc.aio; a call server serves them."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import grpc

from statewise.service.transport.aio._accepting import AcceptingServer
from statewise.service.transport.aio._aio_call import AioCall
from statewise.service.transport.calls import CallAbandoned, CallServer, Method


class AioServer:
    """A server of grpc.aio on the running event loop.

    Args:
        calls: Serves the calls.
        methods: Of all services.
        options: gRPC's.
    """

    def __init__(
        self, calls: CallServer, methods: Sequence[Method], options: Sequence[tuple[str, int]]
    ) -> None:
        self._calls = calls
        self._accepting = AcceptingServer(options)
        self._server = cast("grpc.aio.Server", self._accepting)  # its stub is another class
        services: dict[str, dict[str, Any]] = defaultdict(dict)
        for method in methods:
            services[method.service][method.name] = self._handler(method)
        for service, handlers in services.items():
            self._server.add_registered_method_handlers(service, handlers)

    @property
    def accepts(self) -> bool:
        """Whether new calls are accepted."""
        return self._accepting.accepts

    def open_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Opens a port. Returns its number.

        Args:
            address: HOST:PORT; port 0: a free one.
            credentials: TLS; None: plain text.

        Raises:
            RuntimeError: the port cannot be opened.
        """
        if credentials is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, credentials)

    async def start(self) -> None:
        """Accepts calls."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, and ends those under way after the grace period."""
        await self._server.stop(grace_s)

    def _handler(self, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
        async def one_request(request: bytes, context: Any) -> bytes | None:
            call = AioCall(context, request)
            # The status that ends a call is an exception of gRPC's, in a cycle with the frames it passes.
            del request
            return await self._serve(method, call)

        async def requests(_: Any, context: Any) -> bytes | None:
            return await self._serve(method, AioCall(context, None))

        if method.decode is None:
            return grpc.stream_stream_rpc_method_handler(requests)
        if method.responds_once:
            return grpc.unary_unary_rpc_method_handler(one_request)
        return grpc.unary_stream_rpc_method_handler(one_request)

    async def _serve(self, method: Method, call: AioCall) -> bytes | None:
        try:
            ending = await self._calls.serve(method, call)
        except CallAbandoned:
            # gRPC accepts no status while a message waits to be taken: the call ends without one.
            raise asyncio.CancelledError("the caller takes nothing") from None
        return await call.end(ending)
