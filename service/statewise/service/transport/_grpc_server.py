"""Serves the dataplane's services over gRPC: puts servicers, interceptors and port together."""

import asyncio
import time
from functools import partial
from typing import cast

import grpc
from grpc_health.v1 import health_pb2_grpc

from statewise.service.auth import Callers
from statewise.service.dataplane import Dataplane
from statewise.service.transport._accepting import AcceptingServer, accepting_server
from statewise.service.transport._auth_interceptor import AuthInterceptor
from statewise.service.transport._listening import add_reflection, listen, options
from statewise.service.transport._open_calls import OpenCalls
from statewise.service.transport._port_check import port_answers
from statewise.service.transport.servicers import (
    AdminServicer,
    HealthServicer,
    ModelServicer,
    SequenceServicer,
    add_sequence_service,
)
from statewise.v1 import admin_pb2_grpc, model_pb2_grpc


class GrpcServer:
    """The gRPC server of one dataplane.

    Args:
        dataplane: The server's behaviour.
        release: Of statewise.
    """

    def __init__(self, dataplane: Dataplane, *, release: str) -> None:
        self._dataplane = dataplane
        self._release = release
        self._sequences = SequenceServicer(dataplane)
        self._health = HealthServicer()
        self._calls = OpenCalls(dataplane.limits.settings.calls)
        self._admin: AdminServicer | None = None
        self._accepting: AcceptingServer | None = None
        self._server: grpc.aio.Server | None = None
        self._address = ""

    def listen(self, callers: Callers | None) -> str:
        """Opens the port; calls wait until `serve`. Needs a running event loop. Returns HOST:PORT.

        Args:
            callers: Identify callers; None: every caller may do everything.

        Raises:
            TransportError: the port cannot be opened.
            TlsError: certificate or key are invalid.
        """
        dataplane, settings = self._dataplane, self._dataplane.limits.settings
        self._accepting = accepting_server(self._interceptors(callers), options(settings))
        server = cast("grpc.aio.Server", self._accepting)  # its stub is another class
        self._server = server
        self._admin = AdminServicer(dataplane, version=self._release, started_ns=time.time_ns())
        add_sequence_service(self._sequences, server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(dataplane, changed=self.update_health), server
        )
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self._admin, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            add_reflection(server)
        self._address = listen(server, settings)
        return self._address

    async def serve(self) -> None:
        """Begins to accept calls."""
        assert self._server is not None, "listen has returned"
        self.update_health()
        await self._server.start()

    async def answers(self, timeout_s: float) -> bool:
        """Returns whether the server accepts calls: asks it through its port."""
        assert self._accepting is not None, "listen has returned"
        settings = self._dataplane.limits.settings
        ask = partial(port_answers, certificate=settings.tls_certificate, key=settings.tls_key)
        return self._accepting.accepts and await asyncio.to_thread(ask, self._address, timeout_s=timeout_s)

    async def stop(self) -> None:
        """Ends all calls: those under way may finish within the grace period, new ones are refused."""
        clock = asyncio.get_running_loop().time
        grace_s = self._dataplane.limits.settings.grace_s
        end_s = clock() + grace_s
        self._health.drain()
        self._sequences.drain(grace_s)
        if self._admin is not None:
            self._admin.drain()
        if self._server is not None:
            await self._calls.drain(grace_s)
            remaining_s = max(0.0, end_s - clock())
            self._sequences.drain(remaining_s)  # streams that clients have opened since
            await self._server.stop(remaining_s)

    def update_health(self) -> None:
        """Takes over, for health checks, which models serve."""
        self._health.update(self._dataplane.models)

    def cut_stalled_streams(self) -> None:
        """Ends the streams whose clients took nothing since the last call of this method."""
        self._sequences.cut_stalled()

    def end_streams_of_unknown(self, callers: Callers) -> None:
        """Ends the streams of callers that the callers file no longer names."""
        self._sequences.end_streams_of_unknown(callers)

    def _interceptors(self, callers: Callers | None) -> list[grpc.aio.ServerInterceptor]:
        authenticating = AuthInterceptor(callers, self._dataplane.statistics, allowed=self._calls.add)
        if self._dataplane.tracing is None:
            return [authenticating]
        # OpenTelemetry takes long to import and is an extra.
        from statewise.service.transport.tracing import TracingInterceptor

        return [authenticating, TracingInterceptor(self._dataplane.tracing)]
