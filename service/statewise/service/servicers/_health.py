"""grpc.health.v1: may the server, and each of its models, be sent work?

Names: "" is the server, "models/NAME" is a model. The server is ready from the moment it listens until it
drains, while there is any model to serve; a model of which no version could be loaded is not.
"""

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from statewise.service.models import Models, Status

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """What the health service answers."""

    def __init__(self) -> None:
        self.servicer = aio.HealthServicer()
        self._told: set[str] = set()

    async def tell(self, models: Models) -> None:
        """Says whether the server takes work, and for which models."""
        told: dict[str, bool] = {}
        for entry in models.entries():
            told[entry.name] = told.get(entry.name, False) or entry.status is Status.READY
        for name in self._told - told.keys():
            told[name] = False
        self._told = set(told)
        for name, serving in told.items():
            await self.servicer.set(f"models/{name}", _SERVING if serving else _NOT_SERVING)
        await self.servicer.set("", _SERVING if models.serves_any else _NOT_SERVING)

    async def drain(self) -> None:
        """Says of everything that it takes no more work."""
        await self.servicer.enter_graceful_shutdown()
