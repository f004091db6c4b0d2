"""grpc.health.v1: may the server, and each of its models, be sent work?

Names: "" is the server, "models/NAME" is a model. The server is ready from the moment it listens until it
drains, while there is any model to serve; a model of which no version could be loaded is not.

Messages and stubs are those of grpcio-health-checking, its servicer is not: there, one watcher that leaves
keeps the others from ever hearing of a change, and watchers that stay hold up a shutdown.
"""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from statewise.service.registry import ModelRegistry, VersionState
from statewise.service.transport.messages._rpc import Context

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The health service."""

    def __init__(self) -> None:
        self._serving = {"": False}
        self._draining = False
        self._changed = asyncio.Event()

    def tell(self, models: ModelRegistry) -> None:
        """Says whether the server takes work, and for which models. Once it drains: nothing any more."""
        if self._draining:
            return
        told = dict.fromkeys(self._serving, False)
        for status in models.statuses():
            name = f"models/{status.name}"
            told[name] = told.get(name, False) or status.state is VersionState.READY
        told[""] = models.serves_any
        self._say(told)

    def drain(self) -> None:
        """Says of everything that it takes no more work, and lets go of whoever watches."""
        self._draining = True
        self._say(dict.fromkeys(self._serving, False))

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """NOT_FOUND for a model that was never heard of."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"nothing is known of {request.service!r}")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Until the caller leaves or the server goes away."""
        told = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if self._draining and not changed.is_set():
                return
            await changed.wait()

    def _status(self, service: str) -> "health_pb2.HealthCheckResponse.ServingStatus":
        serving = self._serving.get(service)
        return _UNKNOWN if serving is None else _SERVING if serving else _NOT_SERVING

    def _say(self, serving: dict[str, bool]) -> None:
        self._serving = serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
