"""Serves the dataplane's services over gRPC: puts servicers, gate, transport and port together."""

import asyncio
import logging
import time
from functools import partial

from grpc_health.v1 import health_pb2

from statewise.service.auth import Callers
from statewise.service.dataplane import Dataplane
from statewise.service.transport._grpc_log import hide_metadata
from statewise.service.transport._listening import listen, options
from statewise.service.transport._port_check import port_answers
from statewise.service.transport._reflection import reflection_methods
from statewise.service.transport.aio import AioServer
from statewise.service.transport.calls import CallServer, Gate, Method, OpenCalls, methods_of
from statewise.service.transport.queue import QueueEventLoop, QueueServer
from statewise.service.transport.servicers import (
    AdminServicer,
    HealthServicer,
    ModelServicer,
    SequenceServicer,
)
from statewise.v1 import admin_pb2, model_pb2, sequence_pb2

_log = logging.getLogger(__name__)

_ENDING_S = 1.5
"""Part of the grace period in which calls that go on are cut off, and the server ends."""


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
        self._server: AioServer | QueueServer | None = None
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
        hide_metadata()
        self._admin = AdminServicer(dataplane, version=self._release, started_ns=time.time_ns())
        # The loop decides: a queue is polled by the loop that was made for it, and by no other.
        has_queue = isinstance(asyncio.get_running_loop(), QueueEventLoop)
        if settings.transport == "queue" and not has_queue:
            _log.info("this event loop polls no queue of gRPC: the server takes transport = 'aio'")
        calls = CallServer(Gate(callers), self._calls, dataplane.statistics)
        methods = self._methods(self._admin)
        self._server = (
            QueueServer(calls, methods, options(settings), stall_s=settings.stall_s)
            if has_queue
            else AioServer(calls, methods, options(settings))
        )
        self._address = listen(self._server, settings)
        return self._address

    async def serve(self) -> None:
        """Begins to accept calls."""
        assert self._server is not None, "listen has returned"
        self.update_health()
        await self._server.start()

    async def answers(self, timeout_s: float) -> bool:
        """Returns whether the server accepts calls: asks it through its port."""
        assert self._server is not None, "listen has returned"
        settings = self._dataplane.limits.settings
        ask = partial(port_answers, certificate=settings.tls_certificate, key=settings.tls_key)
        return self._server.accepts and await asyncio.to_thread(ask, self._address, timeout_s=timeout_s)

    async def stop(self) -> None:
        """Ends all calls: those under way may finish within the grace period, new ones are refused."""
        clock = asyncio.get_running_loop().time
        grace_s = self._dataplane.limits.settings.grace_s
        # What is cut off at the end takes its time to end, too.
        grace_s -= min(_ENDING_S, grace_s / 2)
        end_s = clock() + grace_s
        self._health.drain()
        self._sequences.drain(grace_s)
        if self._admin is not None:
            self._admin.drain()
        if self._server is not None:
            # To notify thousands of streams takes a part of the grace period.
            await self._calls.drain(max(0.0, end_s - clock()))
            remaining_s = max(0.0, end_s - clock())
            self._sequences.drain(remaining_s, last=True)  # streams that clients have opened since
            await self._server.stop(remaining_s)

    def update_health(self) -> None:
        """Takes over, for health checks, which models serve, and whether sessions are served."""
        self._health.update(self._dataplane.models, refuses=self._dataplane.sessions.needs_store)

    def cut_stalled_streams(self) -> None:
        """Ends the streams whose clients took nothing since the last call of this method."""
        self._sequences.cut_stalled()

    def end_streams_of_unknown(self, callers: Callers) -> None:
        """Ends the streams of callers that the callers file no longer names."""
        self._sequences.end_streams_of_unknown(callers)

    def _methods(self, admin: AdminServicer) -> list[Method]:
        dataplane = self._dataplane
        models = ModelServicer(dataplane, changed=self.update_health)
        services = [
            (sequence_pb2.DESCRIPTOR.services_by_name["SequenceService"], self._sequences),
            (model_pb2.DESCRIPTOR.services_by_name["ModelService"], models),
            (admin_pb2.DESCRIPTOR.services_by_name["AdminService"], admin),
            (health_pb2.DESCRIPTOR.services_by_name["Health"], self._health),
        ]
        methods = [method for service, servicer in services for method in methods_of(service, servicer)]
        if dataplane.tracing is not None:
            # OpenTelemetry takes long to import and is an extra.
            from statewise.service.transport.tracing import traced

            methods = [traced(method, dataplane.tracing) for method in methods]
        if dataplane.limits.settings.reflection:
            methods += reflection_methods([service.full_name for service, _ in services])
        return methods
