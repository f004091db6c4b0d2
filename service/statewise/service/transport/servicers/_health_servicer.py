"""Implements grpc.health.v1: whether the server, and each of its models, takes requests.

The service name "" is the server, "models/NAME" a model. The names of the contract's services are known, too:
SequenceService serves while the server does, the others until it drains. The server serves from the moment it
listens until it drains, as long as it has a model and the store that it requires; a model serves while one
of its versions is ready.

Messages and stubs come from grpcio-health-checking. Its servicer is not used: there, a watcher that leaves
keeps the other watchers from hearing of changes, and watchers that stay hold up a shutdown.
"""

import asyncio

from google.rpc import code_pb2
from grpc_health.v1 import health_pb2

from statewise.service.registry import ModelRegistry, VersionState
from statewise.service.transport.calls import Call, CallError

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_SEQUENCES = "statewise.v1.SequenceService"
_OTHERS = ("statewise.v1.ModelService", "statewise.v1.AdminService")


class HealthServicer:
    """grpc.health.v1.Health."""

    def __init__(self) -> None:
        self._serving = dict.fromkeys(("", _SEQUENCES, *_OTHERS), False)
        self._draining = False
        self._changed = asyncio.Event()

    def update(self, models: ModelRegistry, *, refuses: bool) -> None:
        """Takes over which models serve; does nothing once the server drains.

        Args:
            models: The served models.
            refuses: Whether the server refuses requests for sessions, for its store is away.
        """
        if self._draining:
            return
        serving = dict.fromkeys(self._serving, False)
        for status in models.statuses():
            name = f"models/{status.name}"
            serving[name] = serving.get(name, False) or status.state is VersionState.READY
        serves = models.serves_any and not refuses
        serving |= {"": serves, _SEQUENCES: serves, **dict.fromkeys(_OTHERS, True)}
        self._publish(serving)

    def drain(self) -> None:
        """Reports NOT_SERVING for every name, and ends all watches."""
        self._draining = True
        self._publish(dict.fromkeys(self._serving, False))

    async def Check(self, request: health_pb2.HealthCheckRequest, _: Call) -> health_pb2.HealthCheckResponse:
        """Answers with a name's status; NOT_FOUND for a name that has never been published."""
        if request.service not in self._serving:
            raise CallError(code_pb2.NOT_FOUND, f"nothing is known of {request.service!r}")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: health_pb2.HealthCheckRequest, call: Call) -> None:
        """Reports changes until the client leaves or the server shuts down."""
        reported = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != reported:
                response = health_pb2.HealthCheckResponse(status=status)
                await call.write(response.SerializeToString())
                reported = status
            if self._draining and not changed.is_set():
                return
            await changed.wait()

    def _status(self, service: str) -> "health_pb2.HealthCheckResponse.ServingStatus":
        serving = self._serving.get(service)
        return _UNKNOWN if serving is None else _SERVING if serving else _NOT_SERVING

    def _publish(self, serving: dict[str, bool]) -> None:
        self._serving = serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
