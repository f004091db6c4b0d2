"""grpc.health.v1: may the server, and each of its models, be sent work?

Names: "" is the server, "models/NAME" is a model. The server is ready from the moment it listens until it
drains; a model of which no version could be loaded is not.
"""

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from statewise.service.models import Models

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """What the health service answers."""

    def __init__(self) -> None:
        self.servicer = aio.HealthServicer()

    async def ready(self, models: Models) -> None:
        """Says that the server takes work, and for which models."""
        for broken in models.broken:
            await self.servicer.set(f"models/{broken.name}", _NOT_SERVING)
        for loaded in models:
            await self.servicer.set(f"models/{loaded.package.name}", _SERVING)
        await self.servicer.set("", _SERVING)

    async def drain(self) -> None:
        """Says of everything that it takes no more work."""
        await self.servicer.enter_graceful_shutdown()
